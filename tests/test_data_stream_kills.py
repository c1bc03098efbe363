"""A data stream whose service is killed while clients write and read it: what they hold stays good."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from programs import PATIENCE_SECONDS, Programs, wait_for
from urllib3.exceptions import HTTPError
from whole_service import WholeService

pytestmark = pytest.mark.kill
STREAM, SHARDS, KILLS, AT_ONCE = "clicks", 2, 3, 10
BETWEEN_KILLS = 20  # requests that are answered
GONE = (BotoCoreError, ClientError, HTTPError, OSError)  # what a client may meet while there is no service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[WholeService]:
    with Programs(tmp_path) as programs:
        yield WholeService(programs, tmp_path / "own", {})


def client(service: WholeService) -> Any:
    """One that tries nothing again by itself."""
    config = Config(read_timeout=PATIENCE_SECONDS, retries={"total_max_attempts": 1})
    return boto3.Session("a", "b", region_name="us-east-1").client("kinesis", endpoint_url=service.url, config=config)


@pytest.fixture
def begun() -> Iterator[list[Worker]]:
    """Those that have; ended with the test, which fails where one of them did."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.end()
    assert [worker.failure for worker in workers if worker.failure] == []


class Worker(threading.Thread):
    """Does one thing again and again, whether there is a service or not, until it is told to stop."""

    def __init__(self, service: WholeService) -> None:
        super().__init__(daemon=True)
        self.kinesis = client(service)
        self.stopped = threading.Event()
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                try:
                    self.once()
                except GONE as error:
                    self.met(error)
                    self.stopped.wait(0.02)
        except BaseException as error:
            self.failure = error

    def end(self) -> None:
        self.stopped.set()
        self.join(PATIENCE_SECONDS)

    @abstractmethod
    def once(self) -> None: ...

    def met(self, error: Exception) -> None:
        """Something that a service which is not there may be to blame for."""


class Producer(Worker):
    """Puts numbered records; `numbers` has of each that was acknowledged its shard and sequence number."""

    def __init__(self, service: WholeService) -> None:
        self.numbers: dict[bytes, tuple[str, int]] = {}
        self.answered = 0
        self._next = count()
        super().__init__(service)

    def once(self) -> None:
        data = [b"%d" % next(self._next) for _ in range(AT_ONCE)]
        records = [{"Data": one, "PartitionKey": one.decode()} for one in data]
        answer = self.kinesis.put_records(StreamName=STREAM, Records=records)
        for one, told in zip(data, answer["Records"], strict=True):
            if "SequenceNumber" in told:
                self.numbers[one] = told["ShardId"], int(told["SequenceNumber"])
        self.answered += 1


class Reader(Worker):
    """Reads one shard from its beginning."""

    def __init__(self, service: WholeService, shard: str) -> None:
        self.shard = shard
        self.read: list[tuple[int, bytes]] = []
        super().__init__(service)

    def take(self, records: list[dict[str, Any]]) -> None:
        self.read += [(int(record["SequenceNumber"]), record["Data"]) for record in records]

    def has_all(self, producer: Producer) -> bool:
        wanted = {data for data, (shard, _) in producer.numbers.items() if shard == self.shard}
        return wanted <= {data for _, data in self.read}


class Poller(Reader):
    """By GetRecords, with whatever iterator the last answer gave: it asks for one of its own only once."""

    _iterator = ""

    def once(self) -> None:
        if not self._iterator:
            begin = {"ShardId": self.shard, "ShardIteratorType": "TRIM_HORIZON"}
            self._iterator = self.kinesis.get_shard_iterator(StreamName=STREAM, **begin)["ShardIterator"]
        answer = self.kinesis.get_records(ShardIterator=self._iterator)
        self.take(answer["Records"])
        self._iterator = answer["NextShardIterator"]
        if not answer["Records"]:
            self.stopped.wait(0.02)

    def met(self, error: Exception) -> None:
        assert not isinstance(error, ClientError), error  # no iterator may turn bad


class Subscriber(Reader):
    """By SubscribeToShard, each time from where the last event says that it goes on."""

    def __init__(self, service: WholeService, shard: str, consumer: str) -> None:
        self._consumer = consumer
        self._from = {"Type": "TRIM_HORIZON"}
        super().__init__(service, shard)

    def once(self) -> None:
        whole = {"ConsumerARN": self._consumer, "ShardId": self.shard, "StartingPosition": self._from}
        with closing(self.kinesis.subscribe_to_shard(**whole)["EventStream"]) as events:
            for event in events:
                if self.stopped.is_set():
                    return
                said = event["SubscribeToShardEvent"]
                self.take(said["Records"])
                self._from = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": said["ContinuationSequenceNumber"]}


def consumer_of(service: WholeService) -> str:
    kinesis = client(service)
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    consumer: str = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="app")["Consumer"]["ConsumerARN"]

    def status() -> str:
        told: str = kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"]
        return told

    wait_for(lambda: status() == "ACTIVE", "the consumer to be active")
    return consumer


def until(what: str, condition: Callable[[], bool], *workers: Worker) -> None:
    """Waits, unless one of the workers has failed."""
    wait_for(lambda: condition() or any(worker.failure for worker in workers), what)
    assert [worker.failure for worker in workers if worker.failure] == []


def test_killed_under_readers_and_writers(service: WholeService, begun: list[Worker]) -> None:
    """Over kill -9 iterators stay valid and subscriptions go on from ContinuationSequenceNumber: each reader has each
    acknowledged record once, under the number that was told, in the order of numbers, none of which is used twice.
    """
    service.start()
    client(service).create_stream(StreamName=STREAM, ShardCount=SHARDS)
    client(service).get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    consumer, shards = consumer_of(service), [f"shardId-{number:012d}" for number in range(SHARDS)]
    pollers = [Poller(service, shard) for shard in shards]
    subscribers = [Subscriber(service, shard, consumer) for shard in shards]
    producer, readers = Producer(service), [*pollers, *subscribers]
    begun += [producer, *readers]
    for wanted in (*[BETWEEN_KILLS] * KILLS, 1):
        if producer.answered:
            service.kill()
            service.start()
        enough = producer.answered + wanted
        until("answers", lambda enough=enough: producer.answered >= enough, *begun)  # type: ignore[misc]
    producer.end()
    until("all to be read", lambda: all(reader.has_all(producer) for reader in readers), *begun)
    for reader in readers:
        reader.end()

    assert len(set(producer.numbers.values())) == len(producer.numbers)
    for reader in readers:
        numbers = [number for number, _ in reader.read]
        assert numbers == sorted(set(numbers))
        assert len({data for _, data in reader.read}) == len(numbers), "a record is there twice"
        by_data = {data: (reader.shard, number) for number, data in reader.read}
        told = {data: place for data, place in producer.numbers.items() if place[0] == reader.shard}
        assert {data: by_data[data] for data in told} == told
