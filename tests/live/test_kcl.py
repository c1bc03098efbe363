"""The Kinesis Client Library for Java and DynamoDB Local, as they come from Maven Central: workers of two applications,
one that polls and one with enhanced fan-out, share a stream's shards while they are split and merged under load.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from programs import Program, Programs, free_port, wait_for
from whole_service import StartService, WholeService

pytestmark = pytest.mark.live
APPLICATIONS = ("polling", "fanout")
WORKERS = ("one", "two")
STREAM = "shared"
KEYS = 97
BATCH = 50
FIRST, SECOND, MERGED = "shardId-000000000000", "shardId-000000000001", "shardId-000000000003"
LAST = {"shardId-000000000002", "shardId-000000000004"}  # open in the end
PARENTS = {
    "shardId-000000000002": {FIRST},
    "shardId-000000000003": {FIRST},
    "shardId-000000000004": {SECOND, MERGED},
}
Client = Any  # boto3 makes its clients at run time


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker's."""

    microseconds: int
    application: str
    worker: str
    what: str
    shard: str
    rest: list[str]


def said(programs: list[Program]) -> list[Said]:
    """All that the workers said, in the order of time."""
    found = []
    for program in programs:
        for line in program.log.read_text(errors="replace").splitlines():
            words = line.split(" ")
            if words[0].isdigit() and len(words) > 4 and words[1] in APPLICATIONS:
                found.append(Said(int(words[0]), words[1], words[2], words[3], words[4], words[5:]))
    return sorted(found, key=lambda one: one.microseconds)


@dataclass
class Load:
    """Puts records until it is told to stop. `sent` has their data, in order for each partition key."""

    client: Client
    sent: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.put()

    def put(self) -> None:
        first = len(self.sent)
        numbers = range(first, first + BATCH)
        records = [{"Data": f"{number}".encode(), "PartitionKey": f"key-{number % KEYS}"} for number in numbers]
        answer = self.client.put_records(StreamName=STREAM, Records=records)
        assert answer["FailedRecordCount"] == 0
        self.sent += map(str, numbers)


@pytest.fixture
def dynamodb(programs: Programs, java: Callable[[str], list[str | Path]]) -> Iterator[tuple[str, Client]]:
    """DynamoDB Local: where it is, and a client of it."""
    port = free_port()
    server = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
    words = [*java("dynamodb"), server, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    program = programs.new("dynamodb", words)
    program.start()
    url = f"http://127.0.0.1:{port}"
    with closing(
        boto3.Session("any", "credentials", region_name="us-east-1").client("dynamodb", endpoint_url=url)
    ) as one:
        program.wait_until(lambda: answers(one))
        yield url, one
    program.kill()


def answers(client: Client) -> bool:
    try:
        client.list_tables()
    except Exception:
        return False
    return True


@pytest.fixture
def client(start_service: StartService, tmp_path: Path) -> Iterator[tuple[WholeService, Client]]:
    """A service with a data stream of two shards."""
    service = start_service({"app": {"destination": {"type": "folder", "path": str(tmp_path / "out")}}})
    session = boto3.Session("any", "credentials", region_name="us-east-1")
    with closing(session.client("kinesis", endpoint_url=service.url)) as one:
        one.create_stream(StreamName=STREAM, ShardCount=2)
        wait_for(lambda: is_active(one), "the stream")
        yield service, one


def is_active(client: Client) -> bool:
    status = client.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"]
    return bool(status == "ACTIVE")


def owners(dynamodb: Client, application: str) -> dict[str, str]:
    """Who holds the leases of the shards that are open in the end."""
    leases = dynamodb.scan(TableName=application)["Items"]
    return {
        one["leaseKey"]["S"]: one["leaseOwner"]["S"]
        for one in leases
        if "leaseOwner" in one and one["leaseKey"]["S"] in LAST
    }


def test_two_workers(
    client: tuple[WholeService, Client],
    dynamodb: tuple[str, Client],
    programs: Programs,
    java: Callable[[str], list[str | Path]],
) -> None:
    """Each application gets every record that was sent and no other, in order for each key; a child is begun when its
    parents are read to their end; and the workers share the leases.
    """
    (service, kinesis), (tables, leases) = client, dynamodb
    workers: list[Program] = []

    def begin(worker: str) -> None:
        told = [f"{application}/{worker}/{application}" for application in APPLICATIONS]
        command = [*java("kcl"), "software.amazon.kinesis.coordinator.Workers", service.url, tables, STREAM, *told]
        workers.append(programs.new(f"kcl-{worker}", command))
        workers[-1].start()

    def begun(count: int) -> bool:
        found = {(one.application, one.shard) for one in said(workers) if one.what == "begin"}
        return len(found) >= count * len(APPLICATIONS)

    with Load(kinesis) as load:
        begin(WORKERS[0])
        wait_for(lambda: begun(2), "the first workers", tail=workers[0].tail)
        begin(WORKERS[1])  # not sooner: the library's workers trip over each other while they make its table
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 126))
        wait_for(lambda: is_active(kinesis), "the split")
        wait_for(lambda: begun(4), "the children of the split", tail=workers[0].tail)
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=MERGED, AdjacentShardToMerge=SECOND)
        wait_for(lambda: is_active(kinesis), "the merge")
        wait_for(lambda: begun(5), "the child of the merge", tail=workers[0].tail)
        for application in APPLICATIONS:
            shared = lambda name=application: set(owners(leases, name).values()) == set(WORKERS)  # noqa: E731
            wait_for(shared, f"the leases of {application} to be shared", tail=workers[1].tail)
    for application in APPLICATIONS:
        wait_for(lambda name=application: received(workers, name) >= set(load.sent), f"all of {application}")  # type: ignore[misc]
    for worker in workers:
        worker.kill()
    for application in APPLICATIONS:
        assert received(workers, application) == set(load.sent)
        assert_in_order([one for one in said(workers) if one.application == application])


def received(workers: list[Program], application: str) -> set[str]:
    return {one.rest[1] for one in said(workers) if one.application == application and one.what == "record"}


def assert_in_order(lines: list[Said]) -> None:
    """Of each key the records come in the order they were sent in, repeats aside; children come after parents."""
    ended: set[str] = set()
    newest: defaultdict[int, int] = defaultdict(lambda: -1)
    seen: set[int] = set()
    for one in lines:
        if one.what == "end":
            ended.add(one.shard)
        elif one.what == "begin":
            assert PARENTS.get(one.shard, set()) <= ended, f"{one.shard} was begun before its parents had ended"
        elif one.what == "record" and (number := int(one.rest[1])) not in seen:
            seen.add(number)
            assert number > newest[number % KEYS], f"{number} came behind {newest[number % KEYS]}"
            newest[number % KEYS] = number
