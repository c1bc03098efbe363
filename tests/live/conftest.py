"""Real servers and clients for the live tests, each started once and killed at the end.

`tests/live/install` gets them. One that is not there skips the tests that need it, and where live tests are required
(CI=true or LIVE_REQUIRED=1) such a skip is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import stores
from botocore.config import Config
from programs import Command, Programs, environment
from stores import Store
from whole_service import Block, StartService, WholeService

TOOLS = Path(".tools").absolute()
PROGRAMS = pytest.StashKey[Programs]()
Firehose = Any  # boto3 makes its clients at run time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where live tests are required a skip fails; a failed test shows the end of each program's log."""
    report = yield
    required = os.environ.get("CI") == "true" or os.environ.get("LIVE_REQUIRED") == "1"
    if report.skipped and required:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome, report.longrepr = "failed", f"{reason}; live tests are required here, so a skip is a failure"
    if report.failed and PROGRAMS in item.config.stash:
        told = [(f"end of the log of {p.name}", p.tail()) for p in item.config.stash[PROGRAMS].all if p.alive]
        report.sections += told
    return report


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Programs]:
    """Whatever is started through it is killed at the end of the run."""
    with Programs(tmp_path_factory.mktemp("programs")) as started:
        pytestconfig.stash[PROGRAMS] = started
        yield started


@pytest.fixture(scope="session")
def new_store(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Store]]:
    """Starts an S3 server of one's own."""
    path = stores.executable(stores.chosen())
    if path is None:
        pytest.skip(f"no {stores.chosen()}: tests/live/install gets it")
    made: list[Store] = []

    def new() -> Store:
        store = Store(programs, path, tmp_path_factory.mktemp("store") / "buckets")
        made.append(store)
        store.start()
        return store

    yield new
    for store in made:
        store.close()


@pytest.fixture(scope="session")
def s3_server(new_store: Callable[[], Store]) -> Store:
    """The S3 server that tests share, each with buckets of its own. Nobody kills this one."""
    return new_store()


@pytest.fixture
def bucket(s3_server: Store) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def start_service(programs: Programs, tmp_path: Path) -> Iterator[StartService]:
    """Starts a service with these streams (and options of `service`), on a data folder of its own."""
    made: list[WholeService] = []

    def start(streams: Block, **options: Any) -> WholeService:
        service = WholeService(programs, tmp_path / f"service-{len(made)}", streams, **options)
        made.append(service)
        service.start()
        return service

    yield start
    for service in made:
        service.kill()


@pytest.fixture
def service(start_service: StartService, s3_server: Store, bucket: str) -> WholeService:
    """A service with one stream, `app`, which delivers to `bucket` when it is told to."""
    return start_service({"app": {"destination": s3_server.destination(bucket)}})


@pytest.fixture
def firehose_client() -> Iterator[Callable[..., Firehose]]:
    """boto3 clients of a service; `attempts` as botocore counts them, the first one included."""
    made: list[Firehose] = []

    def client(service: WholeService, attempts: int = 3) -> Firehose:
        made.append(
            boto3.Session("any", "credentials", region_name="us-east-1").client(
                "firehose",
                endpoint_url=service.url,
                config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=20),
            )
        )
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder, so that no client finds a developer's own settings."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def curl(home: Path) -> Command:
    """curl; it prints the answer's body, and its status on a line of its own."""
    return Command([_found("curl"), "--silent", "--show-error", "--write-out", "\n%{http_code}"], environment(home))


@pytest.fixture(scope="session")
def aws_cli(home: Path) -> Command:
    """AWS CLI v1."""
    path = TOOLS / "awscli/bin/aws"
    if not path.exists():
        pytest.skip("no AWS CLI: tests/live/install gets it")
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "credentials", "AWS_DEFAULT_REGION": "us-east-1"}
    return Command([str(path)], environment(home, **keys))


@pytest.fixture(scope="session")
def node(home: Path) -> Command:
    """Node, with the AWS SDK for JavaScript v3 to require."""
    modules = TOOLS / "js/node_modules"
    if not (modules / "@aws-sdk/client-firehose").exists():
        pytest.skip("no AWS SDK for JavaScript: tests/live/install gets it")
    return Command([_found("node")], environment(home, NODE_PATH=str(modules)))


@pytest.fixture(scope="session")
def syslog_ng() -> str:
    """Where syslog-ng is."""
    return _found("syslog-ng")


@pytest.fixture(scope="session")
def nginx() -> str:
    """Where nginx is."""
    return _found("nginx")


def _found(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"no {name}: tests/live/install gets it")
    return path
