"""What the data stream takes and gives: puts of many and of one, reads of one and of a hundred, and how soon a record
that was put is with who subscribed.

Every record that was put is read back and counted before a figure counts.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench import checking, corpus, floors, measuring
from bench.load import ACCEPTED, Plan
from bench.rig import OURS, Rig, metrics, rig, wait_until
from bench.shard_readers import request
from bench.work import Figures, Goal, Scale, Work, medians
from botocore.eventstream import EventStreamBuffer
from programs import PATIENCE_SECONDS

STREAM = corpus.STREAM
CHUNK_BYTES = 1 << 16
PUT_RATE = 100  # a second, while a subscription is timed
TIP_PUTS, TIP_RECORDS = 20, 50  # a second, and in each of them, while readers follow
TIP_READERS = {"poll": 100, "subscribe": 20}  # a stream has no more consumers


def call(port: int, operation: str, **members: Any) -> Any:
    """One operation's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    headers = {"x-amz-target": f"Kinesis_20131202.{operation}", "content-type": "application/x-amz-json-1.1"}
    connection.request("POST", "/", json.dumps(members), headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, body
    return json.loads(body) if body else {}


def start(one: Rig, shards: int) -> int:
    """A service with a stream of so many shards; its port."""
    one.start()
    port = one.service.port
    call(port, "CreateStream", StreamName=STREAM, ShardCount=shards)
    wait_until(lambda: _status(port) == "ACTIVE", "the stream")
    return port


def _status(port: int) -> str:
    said: str = call(port, "DescribeStreamSummary", StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"]
    return said


def kept(port: int, shards: int) -> Iterator[checking.Found]:
    """All that the stream holds, an answer at a time."""
    for shard in range(shards):
        begin = {"StreamName": STREAM, "ShardId": str(shard), "ShardIteratorType": "TRIM_HORIZON"}
        token = call(port, "GetShardIterator", **begin)["ShardIterator"]
        while True:
            answer = call(port, "GetRecords", ShardIterator=token)
            if not answer["Records"]:
                break
            token = answer["NextShardIterator"]
            yield checking.found_in(b"".join(base64.b64decode(one["Data"]) for one in answer["Records"]))


def puts(scale: Scale, *, shape: str, shards: int, connections: int, requests: int, quick: int) -> Figures:
    """One run of a load, and its floors."""
    with rig() as one:
        port = start(one, shards)
        plan = Plan(port, shape, connections, requests=scale.of(requests, quick))
        loading = one.prepare(plan)
        cpu = one.cpu()
        loading.begin()
        said = loading.ended()
        cpu = one.cpu() - cpu
        assert said["accepted"] == said["sent"], said
        checking.check_found(kept(port, shards), [loading.sent])
        echo = floors.echo(one, plan, said["answer_bytes"])
        disk = floors.disk_seconds(one, said["bytes"], corpus.SHAPES[shape].size_bytes * connections)
        return {
            "records_per_s": said["records"] / said["seconds"],
            "cpu_us_per_record": cpu / said["records"] * 1e6,
            "echo_records_per_s": said["records"] / echo.seconds,
            "disk_records_per_s": said["records"] / disk,
            "allowed_records_per_s": min(said["records"] / echo.seconds, said["records"] / disk) * 0.6,
            "p99_ms": said["accepted_ms"]["p99"],
            "load_cpu_us_per_record": said["cpu_seconds"] / said["records"] * 1e6,
        }


def reads(scale: Scale) -> Figures:
    """One reader of one shard, from its beginning."""
    with rig() as one:
        port, size = start(one, 1), filled(one, scale.of(300, 20))
        said = read(one.pid, port, 1, size)
        return {
            "mb_per_s": said["bytes"] / said["seconds"] / 1e6,
            "cpu_s_per_gb": said["cost"] / said["bytes"] * 1e9,
            "reader_cpu_s_per_gb": said["cpu_seconds"] / said["bytes"] * 1e9,
        }


def readers(scale: Scale) -> Figures:
    """A hundred readers of one shard, and one: what they cost the service. There is more to read than it remembers.
    The floor is what as many bytes into as many sockets cost. They take turns, so that neighbours touch all alike; one
    reader costs few ticks of the clock, and so has several turns.
    """
    rounds, turns = scale.of(3, 1), scale.of(5, 2)
    found = []
    with rig() as one:
        port, size = start(one, 1), filled(one, scale.of(60, 20))
        floor, floor_port = one.bare("bare_reads", size)
        for _ in range(rounds):
            alone = sum(read(one.pid, port, 1, size)["cost"] for _ in range(turns)) / turns
            hundred = read(one.pid, port, 100, size)
            bare = read(floor.pid, floor_port, 100, size)
            found.append(
                {
                    "times_one": hundred["cost"] / alone,
                    "bare_times_one": bare["cost"] / alone,
                    "bare_cpu_s_per_gb": bare["cost"] / bare["bytes"] * 1e9,
                    "one_cpu_s_per_gb": alone / size * 1e9,
                    "hundred_cpu_s_per_gb": hundred["cost"] / hundred["bytes"] * 1e9,
                    "hundred_mb_per_s": hundred["bytes"] / hundred["seconds"] / 1e6,
                }
            )
    return medians(found)


def filled(one: Rig, requests: int) -> int:
    """Bytes of records that were put, and are there."""
    plan = Plan(one.service.port, "kinesis-put-records", 4, requests=requests)
    loading = one.begin(plan)
    said = loading.ended()
    assert said["accepted"] == said["sent"], said
    checking.check_found(kept(one.service.port, 1), [loading.sent])
    size: int = said["bytes"]
    return size


def read(pid: int, port: int, count: int, size: int) -> dict[str, float]:
    """So many readers at once, each of all that is there: their bytes, their time, and the server's CPU seconds."""
    command = [sys.executable, "-m", "bench.shard_readers", str(port), STREAM, str(count), str(size)]
    environment = {"PATH": "/usr/bin:/bin", **OURS}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        cpu = measuring.cpu_seconds(pid)
        process.stdin.write(b"go\n")
        process.stdin.flush()
        said: dict[str, float] = json.loads(process.stdout.readline())
        cpu = measuring.cpu_seconds(pid) - cpu
    assert said["records"] * corpus.SHAPES["kinesis-put-records"].record_bytes == count * size, said
    return {**said, "bytes": float(count * size), "cost": cpu}


def followers(scale: Scale) -> Figures:
    """Readers that follow a shard's tip beside one: what the service costs while a producer puts a MB a second."""
    found: dict[str, float] = {}
    with rig() as one:
        port = start(one, 1)
        consumers = _consumers(port, TIP_READERS["subscribe"])
        for kind, count in TIP_READERS.items():
            alone = follow(one, port, kind, consumers, 1, scale)
            many = follow(one, port, kind, consumers, count, scale)
            found[f"{kind}_times_one"] = many / alone
            found[f"{kind}_one_cpu"] = alone
            found[f"{kind}_each_cpu"] = (many - alone) / (count - 1)
    return found


def follow(one: Rig, port: int, kind: str, consumers: list[str], count: int, scale: Scale) -> float:
    """The share of a core that the service takes, its producer's part included, while so many readers follow."""
    puts, data = scale.of(160, 10), base64.b64encode(b"x" * 1024).decode()
    body = request("PutRecords", StreamName=STREAM, Records=[{"PartitionKey": "k", "Data": data}] * TIP_RECORDS)
    begin = {"StreamName": STREAM, "ShardId": "0", "ShardIteratorType": "LATEST"}
    whom = consumers if kind == "subscribe" else [call(port, "GetShardIterator", **begin)["ShardIterator"]] * count
    arguments = [str(port), kind, str(puts * TIP_RECORDS), *whom[:count]]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.tip_readers", *arguments],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **OURS},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        cpu, began = measuring.cpu_seconds(one.pid), time.perf_counter()
        _put_at_a_rate(port, body, puts)
        assert process.stdout.readline() == b"done\n"
        return (measuring.cpu_seconds(one.pid) - cpu) / (time.perf_counter() - began)


def fanout(scale: Scale) -> Figures:
    """Single puts at a steady rate, while one consumer is subscribed: from before the put to its event."""
    with rig() as one:
        port, count = start(one, 1), scale.of(1500, 100)
        (consumer,) = _consumers(port, 1)
        seen: dict[int, float] = {}
        reader = threading.Thread(target=_subscribed, args=(port, consumer, count, seen), name="subscriber")
        reader.start()
        wait_until(lambda: -1 in seen, "the subscription")
        sent, answered = _put_steadily(port, count)
        reader.join(PATIENCE_SECONDS)
        assert len(seen) == count + 1, f"{len(seen) - 1} of {count} records came"
        waits = sorted((seen[number] - sent[number]) * 1000 for number in range(count))
        puts = sorted((answered[number] - sent[number]) * 1000 for number in range(count))
        middle, most = count // 2, count * 99 // 100
        return {
            "p50_ms": waits[middle],
            "p99_ms": waits[most],
            "put_p50_ms": puts[middle],
            "put_p99_ms": puts[most],
        }


def to_s3(scale: Scale, *, shards: int) -> Figures:
    """The same records, put into a data stream that feeds a delivery stream, and put into one directly."""
    source = {"source": {"type": "data_stream", "stream": STREAM, "start": "TRIM_HORIZON"}}
    with rig() as one:
        one.start()
        direct = delivered(scale, one, "put-record-batch")
    with rig(stream_options=source) as one:
        start(one, shards)
        fed = delivered(scale, one, "kinesis-put-records")
    return {"times_direct": fed / direct, "cpu_s_per_gb": fed, "direct_cpu_s_per_gb": direct}


def delivered(scale: Scale, one: Rig, shape: str) -> float:
    """CPU seconds of the service for a GB of records, from the first put until all is delivered."""
    plan = Plan(one.service.port, shape, 16, requests=scale.of(600, 32))
    one.warm_up(plan)
    _all_taken(one)
    cpu = one.cpu()
    said = one.load(plan)
    _all_taken(one)
    cpu = one.cpu() - cpu
    one.check()
    assert said["accepted"] == said["sent"], said
    return float(cpu / said["bytes"] * 1e9)


def _all_taken(one: Rig) -> None:
    """Returns when all that was put is delivered: a source may still have to read it."""
    put = sum(sent.flags.count(ACCEPTED) * sent.shape.records for sent in one.sent)
    wait_until(lambda: metrics(one.service.port)["firehose_accepted_records_total"] == put, "the source")
    one.deliver_all()


def _consumers(port: int, count: int) -> list[str]:
    """The ARNs of so many, that are ready to subscribe."""
    arn = call(port, "DescribeStreamSummary", StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    found = []
    for number in range(count):
        said = call(port, "RegisterStreamConsumer", StreamARN=arn, ConsumerName=f"bench-{number}")["Consumer"]
        found.append(said["ConsumerARN"])
        wait_until(lambda: _consumer_status(port, found[-1]) == "ACTIVE", "the consumer")
    return found


def _put_at_a_rate(port: int, body: bytes, puts: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began = time.perf_counter()
    for number in range(puts):
        time.sleep(max(0.0, began + number / TIP_PUTS - time.perf_counter()))
        connection.sendall(body)
        answer = connection.recv(CHUNK_BYTES)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b'"FailedRecordCount":0' in answer, answer
    connection.close()


def _consumer_status(port: int, arn: str) -> str:
    said: str = call(port, "DescribeStreamConsumer", ConsumerARN=arn)["ConsumerDescription"]["ConsumerStatus"]
    return said


def _put_steadily(port: int, count: int) -> tuple[list[float], list[float]]:
    """When each record left, and when it was answered."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began, sent, answered = time.perf_counter(), list[float](), list[float]()
    for number in range(count):
        time.sleep(max(0.0, began + number / PUT_RATE - time.perf_counter()))
        data = base64.b64encode(b"%d" % number).decode()
        sent.append(time.perf_counter())
        connection.sendall(request("PutRecord", StreamName=STREAM, PartitionKey="k", Data=data))
        answer = connection.recv(CHUNK_BYTES)
        answered.append(time.perf_counter())
        assert answer.startswith(b"HTTP/1.1 200"), answer
    connection.close()
    return sent, answered


def _subscribed(port: int, consumer: str, count: int, seen: dict[int, float]) -> None:
    """When each record was there; -1 stands for the first event."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    headers = {"x-amz-target": "Kinesis_20131202.SubscribeToShard", "content-type": "application/x-amz-json-1.1"}
    members = {"ConsumerARN": consumer, "ShardId": "0", "StartingPosition": {"Type": "LATEST"}}
    connection.request("POST", "/", json.dumps(members), headers)
    answer = connection.getresponse()
    frames: Any = EventStreamBuffer()
    assert answer.status == 200, answer.read()
    while len(seen) < count + 1:
        frames.add_data(answer.read1(CHUNK_BYTES))
        now = time.perf_counter()
        for frame in frames:
            if frame.headers[":event-type"] == "SubscribeToShardEvent":
                seen.setdefault(-1, now)
                records = json.loads(frame.payload)["Records"]
                seen.update({int(base64.b64decode(one["Data"])): now for one in records})
    connection.close()


WORKS = (
    Work(
        "kinesis-put-records",
        "PutRecords of 500 records of 1 KB into 4 shards, 16 connections",
        (
            Goal("records_per_s", "records/s durable", ">=", 100_000, "echo_records_per_s", "allowed_records_per_s"),
            Goal("cpu_us_per_record", "CPU us/record", "<=", 10),
        ),
        partial(puts, shape="kinesis-put-records", shards=4, connections=16, requests=600, quick=32),
    ),
    Work(
        "kinesis-put-record",
        "PutRecord of 1 KB into 4 shards, 64 connections",
        (Goal("records_per_s", "records/s durable", ">=", 5000, "echo_records_per_s", "allowed_records_per_s"),),
        partial(puts, shape="kinesis-put-record", shards=4, connections=64, requests=40_000, quick=1000),
    ),
    Work(
        "kinesis-get-records",
        "GetRecords of one shard of 1 KB records, one reader",
        (Goal("mb_per_s", "MB/s", ">=", 200), Goal("cpu_s_per_gb", "CPU s/GB", "<=", 5)),
        reads,
    ),
    Work(
        "kinesis-readers-100",
        "GetRecords of one shard, a hundred readers beside one",
        (Goal("times_one", "x one reader's CPU", "<=", 10, "bare_times_one"),),
        readers,
    ),
    Work(
        "kinesis-tip-readers",
        "a hundred readers that poll a shard's tip five times a second, and 20 that subscribe, beside one of each",
        (
            Goal("poll_times_one", "x one that polls", "<=", 10),
            Goal("subscribe_times_one", "x one that subscribes", "<=", 10),
        ),
        followers,
    ),
    Work(
        "kinesis-fanout-latency",
        "PutRecord to its event of SubscribeToShard, 100 records a second",
        (Goal("p99_ms", "ms p99", "<=", 20, "put_p99_ms"),),
        fanout,
    ),
    Work(
        "data-stream-s3",
        "PutRecords into a data stream of 4 shards that feeds gzip to S3, beside PutRecordBatch",
        (Goal("times_direct", "x the direct PUT's CPU", "<=", 1.5),),
        partial(to_s3, shards=4),
    ),
    Work(
        "data-stream-s3-one",
        "PutRecords into a data stream of one shard that feeds gzip to S3, beside PutRecordBatch",
        (Goal("times_direct", "x the direct PUT's CPU", "<=", 1.5),),
        partial(to_s3, shards=1),
    ),
)
