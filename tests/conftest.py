"""What every test run keeps to: no test fails for slowness, no test asks a name server, and at its end it says which
tests were left out.

Where live tests are required (CI=true or LIVE_REQUIRED=1), one that is skipped for want of its server is a failure.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

WAYS = {"live": "make test-live", "kill": "make test-live; make torture kills more"}
LEFT_OUT = pytest.StashKey[Counter[str]]()
# A busy machine is no defect: pytest's own timeout ends what hangs.
settings.register_profile(
    "busy",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # the same examples each time: a change fails for what it changed
    print_blob=True,
)
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def unknown_names() -> Iterator[None]:
    """Names below `.invalid` are nobody's, at once: a name server may be slow to say so, silent or of another mind."""
    asked = socket.getaddrinfo

    def addresses(host: Any, *more: Any, **named: Any) -> Any:
        if (host.decode() if isinstance(host, bytes) else host or "").endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return asked(host, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", addresses)
        yield


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = os.environ.get("CI") == "true" or os.environ.get("LIVE_REQUIRED") == "1"
    if report.skipped and required and item.get_closest_marker("live"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome, report.longrepr = "failed", f"{reason}; live tests are required here, so a skip is a failure"
    return report


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        told_to = item.config.option.markexpr
        left = [marker for marker in WAYS if f"not {marker}" in told_to and item.get_closest_marker(marker)]
        item.config.stash[LEFT_OUT].update(left[:1])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for marker, count in sorted(config.stash[LEFT_OUT].items()):
        tests = "test" if count == 1 else "tests"
        terminalreporter.write_line(f"left out: {count} {tests} marked {marker} ({WAYS[marker]})")
