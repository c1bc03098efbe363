"""Real servers and clients for the live tests, each started once and killed at the end.

`tests/live/install` gets them. One that is not there skips the tests that need it.
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
from programs import PATIENCE_SECONDS, Command, Programs, environment
from search_server import QUICK_START, SearchServer, search_server_is_there
from stores import Store
from whole_service import Block, StartService, WholeService

TOOLS = Path(".tools").absolute()
PROGRAMS = pytest.StashKey[Programs]()
Firehose = Any  # boto3 makes its clients at run time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of each program's log."""
    report = yield
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


@pytest.fixture(scope="session")
def search_server(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    """The OpenSearch node that tests share, each with indices of its own: a start takes long. Tests may restart it."""
    if not search_server_is_there():
        pytest.skip("no OpenSearch: tests/live/install gets it")
    server = SearchServer(programs, tmp_path_factory.mktemp("search"), *QUICK_START)
    server.start()
    yield server
    server.close()


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
        retries: Any = {"total_max_attempts": attempts, "mode": "standard"}
        config = Config(retries=retries, read_timeout=PATIENCE_SECONDS)
        session = boto3.Session("any", "credentials", region_name="us-east-1")
        made.append(session.client("firehose", endpoint_url=service.url, config=config))
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
    if not (modules / "@aws-sdk/client-kinesis").exists():
        pytest.skip("no AWS SDK for JavaScript: tests/live/install gets it")
    return Command([_found("node")], environment(home, NODE_PATH=str(modules)))


@pytest.fixture(scope="session")
def java() -> Callable[[str], list[str | Path]]:
    """How a Java program of a folder in .tools is begun: its jars, then what it is told."""

    def command(folder: str) -> list[str | Path]:
        if not (TOOLS / folder / "lib").exists():
            pytest.skip(f"no {folder}: tests/live/install gets it")
        return [_found("java"), "-Xmx384m", "-cp", f"{TOOLS / folder / 'app'}:{TOOLS / folder / 'lib'}/*"]

    return command


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
