"""`serve` and what all commands share: exit status, words instead of tracebacks, JSON beside tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import failing, good

from firehose import __version__, config
from firehose.cli import show
from firehose.cli.options import reachable
from firehose.cli.serve import banner
from firehose.cli.streams import rows


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_configuration_is_told_whole(command: str, tmp_path: Path) -> None:
    """All problems of a file come at once, with their lines, in words."""
    path = tmp_path / "firehose.yaml"
    path.write_text(
        "delivery_streams:\n  one: {destination: {type: fodler}}\n  two: {destination: {type: folder, pth: x}}\n"
    )
    said = failing(command, "-c", str(path))
    assert "line 2: delivery_streams.one.destination.type: unknown destination type; did you mean 'folder'?" in said
    assert "line 3: delivery_streams.two.destination.pth: unknown key; did you mean 'path'?" in said


@pytest.mark.parametrize("arguments", [["serve"], ["check"], ["buffer", "ls"], ["buffer", "verify"]])
def test_a_configuration_is_needed(arguments: list[str]) -> None:
    """Without -c these commands say what they want, as a mistake of usage."""
    assert "-c FILE" in " ".join(failing(*arguments, status=2).split())


@pytest.mark.parametrize("arguments", [["nope"], ["put"], ["sample", "--count", "many"], ["buffer", "cat"]])
def test_mistakes_of_usage(arguments: list[str]) -> None:
    """Unknown commands, missing arguments and malformed values end with status 2."""
    failing(*arguments, status=2)


def test_nobody_answers() -> None:
    """A service that is not there is told with the address that was tried."""
    assert "no service answers at http://127.0.0.1:1" in failing("streams", "--url", "http://127.0.0.1:1")


def test_version() -> None:
    """The version is the package's."""
    assert good("version") == f"{__version__}\n"


def test_the_banner_says_what_will_run() -> None:
    """Address, data folder, and each stream's thresholds and place."""
    text = "delivery_streams: {app: {buffering: {size_mib: 2.5}, destination: {type: folder, path: out}}}"
    said = banner(config.parse("test", text))
    assert "127.0.0.1:4573" in said
    assert "app: every 2.5 MiB or 300 s to folder out" in said


PLACE = {
    "destination": "lake",
    "delivered": 5,
    "buffered": 2,
    "dropped": 0,
    "filtered": 3,
    "dead": 1,
    "oldest_age_seconds": 90,
    "held": 0,
    "imbalance": 0,
    "paused": "",
    "last_error": "",
}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({}, "-"),
        ({"last_error": "no route"}, "no route"),
        ({"last_error": "no route", "paused": "three held"}, "paused: three held"),
        ({"held": 2, "last_error": "a bug"}, "2 held; a bug"),
        ({"imbalance": -1}, "-1 records cannot be accounted for"),
        ({"damaged": 3}, "3 lost to damage"),
    ],
)
def test_trouble_is_shown(said: dict[str, object], shown: str) -> None:
    """Whatever a person must look at stands at the end of the stream's row."""
    stream = {"name": "app", "state": "ACTIVE", "accepted": 8, "buffered_bytes": 9, "destinations": [{**PLACE, **said}]}
    assert list(rows([stream])) == [("app", "lake", 8, 5, 0, 3, 1, 2, "2m", shown)]


def test_streams_without_a_delivery_half() -> None:
    """A stream whose delivery half does not answer is still shown with what it took."""
    stream = {"name": "app", "state": "DELETING", "accepted": 8, "buffered_bytes": 2048, "destinations": []}
    ((name, _, accepted, *_, last),) = rows([stream])
    assert (name, accepted) == ("app (DELETING)", 8)
    assert "2.0 KiB buffered" in str(last)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4573"),
        ("0.0.0.0", "http://127.0.0.1:4573"),
        ("::", "http://[::1]:4573"),
        ("log.example", "http://log.example:4573"),
    ],
)
def test_where_a_service_is_reached(host: str, url: str) -> None:
    """A service that listens on every address is asked on the loopback."""
    assert reachable(host, 4573) == url


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0, "0.0s"), (59.9, "59.9s"), (90, "2m"), (7199, "120m"), (7200, "2h"), (172800, "2d")],
)
def test_ages_are_short(seconds: float | None, said: str) -> None:
    """Ages are told in the largest unit of which there are two."""
    assert show.age(seconds) == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")])
def test_sizes_are_short(count: int, said: str) -> None:
    """Bytes are told in binary units."""
    assert show.size(count) == said


def test_a_start_loads_what_it_needs() -> None:
    """The command line by itself loads neither DuckDB nor an HTTP client: a service would keep them for nothing."""
    loaded = "import sys, firehose.cli; print([name for name in ('duckdb', 'httpx', 'boto3') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


ORDER = """
import sys
from firehose import allocator
from firehose.cli.commands import app

def bounded():
    sys.exit(3 if "firehose.service" in sys.modules else 4)

allocator.bounded = bounded
app(["serve", "-c", sys.argv[1]])
"""


def test_allocators_are_bounded_before_the_service_is_loaded(tmp_path: Path) -> None:
    """Its modules take memory from Arrow, and what was once taken from the wrong allocator stays with the process."""
    path = tmp_path / "firehose.yaml"
    path.write_text("delivery_streams: {}\n")
    assert subprocess.run([sys.executable, "-c", ORDER, str(path)], check=False).returncode == 4
