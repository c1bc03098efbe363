"""Delivery streams fed by data streams, in whole services killed and resharded in the middle: every record that
was acknowledged arrives once.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from programs import Programs, wait_for
from whole_service import WholeService

QUICK = {"size_mib": 0.01, "interval_seconds": 0.05}
KEYS = {"access_key_id": "a", "secret_access_key": "b"}
ROUNDS = 4
PATIENCE_SECONDS = 50  # the far side has 60 s to answer


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


class Producer:
    """Puts records, each unlike every other, to the data stream `clicks` of a service."""

    def __init__(self, service: WholeService) -> None:
        self.service = service
        once = Config(retries={"total_max_attempts": 1}, read_timeout=60)
        session = boto3.Session("a", "b", region_name="us-east-1")
        self.kinesis: Any = session.client("kinesis", endpoint_url=service.url, config=once)
        self.sent: set[bytes] = set()
        self.acknowledged: set[bytes] = set()

    def create(self, shards: int) -> None:
        self.kinesis.create_stream(StreamName="clicks", ShardCount=shards)
        self.wait_active()

    def wait_active(self) -> None:
        def active() -> bool:
            summary = self.kinesis.describe_stream_summary(StreamName="clicks")["StreamDescriptionSummary"]
            return bool(summary["StreamStatus"] == "ACTIVE")

        wait_for(active, "the data stream to be active")

    def put(self, count: int = 50) -> None:
        """What fails is not tried again: whether it was stored, nobody knows."""
        records = [b"%06d\n" % (len(self.sent) + number) for number in range(count)]
        self.sent.update(records)
        entries = [{"Data": record, "PartitionKey": record.decode()} for record in records]
        try:
            answer = self.kinesis.put_records(StreamName="clicks", Records=entries)
        except (BotoCoreError, ClientError):
            return
        for record, told in zip(records, answer["Records"], strict=True):
            if "SequenceNumber" in told:
                self.acknowledged.add(record)

    def reshard(self, dice: Random) -> None:
        """Splits a shard, or merges two neighbours."""
        self.wait_active()
        shards = self.kinesis.list_shards(StreamName="clicks", ShardFilter={"Type": "AT_LATEST"})["Shards"]
        shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
        if len(shards) > 2 and dice.random() < 0.5:
            left = dice.randrange(len(shards) - 1)
            pair = {"ShardToMerge": shards[left]["ShardId"], "AdjacentShardToMerge": shards[left + 1]["ShardId"]}
            self.kinesis.merge_shards(StreamName="clicks", **pair)
        else:
            shard = dice.choice(shards)
            start, end = (int(shard["HashKeyRange"][f"{side}HashKey"]) for side in ("Starting", "Ending"))
            middle = str((start + end) // 2)
            self.kinesis.split_shard(StreamName="clicks", ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)


def arrived(out: Path) -> Counter[bytes]:
    files = [one for one in out.rglob("*") if one.is_file() and ".partial" not in one.parts]
    return Counter(line for one in files for line in one.read_bytes().splitlines(keepends=True))


def all_once(producer: Producer, out: Path) -> None:
    """Waits until all that was acknowledged is there, and sees that nothing came twice or from nowhere."""
    wait_for(lambda: producer.acknowledged <= arrived(out).keys(), "every acknowledged record to arrive")
    found = arrived(out)
    assert set(found.values()) == {1}
    assert found.keys() <= producer.sent


def lake(out: Path, **source: Any) -> dict[str, Any]:
    block = {"stream": "clicks", "start": "TRIM_HORIZON", **source}
    return {"source": block, "buffering": QUICK, "destination": {"type": "folder", "path": str(out)}}


def test_own_stream_killed_in_the_middle(programs: Programs, tmp_path: Path) -> None:
    """A service that reads its own data stream, killed again and again between puts and reshards, delivers each
    acknowledged record once; what is put to its delivery stream directly is refused.
    """
    dice, out = Random(8), tmp_path / "out"
    service = WholeService(programs, tmp_path, {"lake": lake(out, type="data_stream")})
    service.start()
    producer = Producer(service)
    producer.create(2)
    for turn in range(ROUNDS):
        for _ in range(5):
            producer.put()
        if turn % 2:
            producer.reshard(dice)
        producer.put()
        service.kill()
        service.start()
    producer.put()
    all_once(producer, out)
    answer = service.post("/ingest/lake", b"{}")
    assert (answer.status_code, "data_stream" in answer.text) == (400, True)
    assert service.metric("firehose_imbalance_records") == 0
    assert service.metric("firehose_source_expired_records_total") == 0


@pytest.mark.parametrize("mode", ["polling", "fan_out"])
def test_a_stream_elsewhere_killed_in_the_middle(programs: Programs, tmp_path: Path, mode: str) -> None:
    """With the data stream on one instance and the delivery stream on another, killed in turn, each acknowledged record
    is delivered once.
    """
    dice, out = Random(9), tmp_path / "out"
    upstream = WholeService(programs, tmp_path / "upstream", {})
    upstream.start()
    reading = lake(out, type="kinesis", mode=mode, endpoint_url=upstream.url, poll_seconds=0.2, **KEYS)
    reader = WholeService(programs, tmp_path / "reader", {"lake": reading})
    reader.start()
    producer = Producer(upstream)
    producer.create(2)
    for turn in range(4):
        for _ in range(5):
            producer.put()
        if turn % 2:
            producer.reshard(dice)
        victim = (upstream, reader)[turn % 2]
        victim.kill()
        victim.start()
        producer.put()
    all_once(producer, out)


@pytest.mark.parametrize("mode", ["polling", "fan_out"])
def test_a_reload_holds_up_nobody(programs: Programs, tmp_path: Path, mode: str) -> None:
    """A source that changes while it waits for the far side keeps nobody else waiting, and takes each record once; so
    does one whose data stream is named by its ARN from then on, and the end of the service.
    """
    out = tmp_path / "out"
    upstream = WholeService(programs, tmp_path / "upstream", {})
    upstream.start()
    producer = Producer(upstream)
    producer.create(4)
    reading = lake(out, type="kinesis", mode=mode, endpoint_url=upstream.url, **KEYS)
    reader = WholeService(programs, tmp_path / "reader", {"lake": reading})
    reader.start()
    producer.put()
    all_once(producer, out)
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"
    for poll_seconds, stream in ((0.3, "clicks"), (0.4, arn)):
        upstream.program.signal(signal.SIGSTOP)
        reader.reload(
            {"lake": {**reading, "source": {**reading["source"], "poll_seconds": poll_seconds, "stream": stream}}}
        )
        assert max(answered(reader) for _ in range(100)) < PATIENCE_SECONDS
        upstream.program.signal(signal.SIGCONT)
        producer.put()
        all_once(producer, out)
    upstream.program.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert reader.stop() == 0
        assert time.monotonic() - began < PATIENCE_SECONDS
    finally:
        upstream.program.signal(signal.SIGCONT)


def answered(service: WholeService) -> float:
    """Seconds that an answer takes."""
    began = time.monotonic()
    assert httpx.get(f"{service.url}/livez", trust_env=False, timeout=60).status_code == 200
    return time.monotonic() - began


def test_trouble_is_told_and_goes_away(programs: Programs, tmp_path: Path) -> None:
    """A source whose data stream is missing is named by /readyz, with the way out; once it is there all is well."""
    service = WholeService(programs, tmp_path, {"lake": lake(tmp_path / "out", type="data_stream")})
    service.start()
    wait_for(lambda: "no data stream 'clicks'" in service.check("source of stream lake"), "the trouble to be told")
    producer = Producer(service)
    producer.create(1)
    producer.put()
    all_once(producer, tmp_path / "out")
    assert service.check("source of stream lake") == ""
