"""Records that hold several are taken apart before they get their partitions: each part goes its own way."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from packing import packed
from programs import PATIENCE_SECONDS
from running import NEVER, Running, imbalances, running, to_folder

from firehose.partitioning.columns import NO_VALUE

HOOK = """
import base64, json


def handler(event, context):
    return {"records": [answer(record) for record in event["records"]]}


def answer(record):
    try:
        country = json.loads(base64.b64decode(record["data"])).get("c")
    except ValueError:
        country = None
    keys = {"c": country} if country else {}
    return {**record, "result": "Ok", "metadata": {"partitionKeys": keys}}
"""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "query": {"dynamic_partitioning": {"queries": {"c": ".c"}}, "prefix": "c=!{partitionKeyFromQuery:c}/"},
    "hook": {"dynamic_partitioning": {}, "prefix": "c=!{partitionKeyFromLambda:c}/"},
    "column": {"dynamic_partitioning": {"columns": ["c"]}, "prefix": "", "format": {"type": "parquet"}},
}
NOTHING = "no JSON"
PARTS = [['{"c":"a","n":0}', '{"c":"b","n":1}', '{"c":"a","n":2}'], ['{"c":"b","n":3}', '{"n":4}', '{"c":"a","n":5}']]
EXTRACTION = "metadata-extraction-failed"


def stream(root: Path, way: str, *transforms: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
    """A stream with partitions by `c`. The hook comes behind what takes records apart, wherever in the list it is."""
    partitioning, *prefix = WAYS[way].items()
    hook = {"type": "python", "handler": "keys:handler", "path": str(root), "style": "lambda", "attempts": 1}
    (root / "keys.py").write_text(HOOK)
    return {
        "buffering": NEVER,
        "transforms": [*([hook] if way == "hook" else []), *transforms, {"type": "append_delimiter"}],
        **dict([partitioning]),
        "destination": to_folder(root, **dict(prefix)),
        "errors": to_folder(root, "errors", prefix="!{firehose:error-output-type}/"),
        **keys,
    }


async def ask(one: Running, operation: str, **body: Any) -> None:
    headers = {"X-Amz-Target": operation, "Content-Type": "application/x-amz-json-1.1"}
    answer = await one.client.post("/", content=json.dumps(body), headers=headers)
    assert answer.status_code == 200, answer.text


async def put(one: Running, *records: str) -> None:
    """With the AWS API, which takes a record for what it is."""
    data = [{"Data": b64encode(record.encode()).decode()} for record in records]
    await ask(one, "Firehose_20150804.PutRecordBatch", DeliveryStreamName="app", Records=data)


def parted(root: Path) -> dict[str, list[int]]:
    """By folder, the numbers of the records in it, as they stand."""
    found: dict[str, list[int]] = defaultdict(list)
    for file in sorted(path for path in (root / "out").glob("c=*/*") if path.is_file()):
        found[file.parent.name] += numbers(file)
    return found


def numbers(file: Path) -> list[int]:
    if file.suffix == ".parquet":
        column: list[int] = pq.ParquetFile(file).read().column("n").to_pylist()
        return column
    return [json.loads(line)["n"] for line in file.read_text().splitlines()]


def letters(root: Path) -> list[tuple[str, str, str]]:
    """Of each: its type, its message and its record."""
    files = [path for path in (root / "errors").rglob("*") if path.is_file() and ".partial" not in path.parts]
    said = [(file.parent.name, json.loads(line)) for file in files for line in file.read_text().splitlines()]
    return sorted((kind, one["errorMessage"], b64decode(one["rawData"]).decode()) for kind, one in said)


async def totals(one: Running) -> list[int]:
    """Of delivered, dead and split rows; all of them add up."""
    await one.flush("app")
    assert set(imbalances(await one.metrics()).values()) == {0.0}
    (place,) = (await one.streams())["app"]["destinations"].values()
    return [place[what] for what in ("delivered", "dead", "split")]


@pytest.mark.parametrize("way", WAYS)
async def test_objects_in_a_row(tmp_path: Path, way: str) -> None:
    """JSON objects back to back, or on lines, lie in their own partitions, in order and once; one without the key is a
    letter, and nothing else of its record is. A record that is not JSON is one whole.
    """
    apart = {"type": "deaggregate", "sub_record_type": "json"}
    async with running(tmp_path, {"app": stream(tmp_path, way, apart)}) as one:
        await put(one, "".join(PARTS[0]), NOTHING, "\n".join(PARTS[1]) + "\n", '{"c":"a","n":6}')
        without = int(way != "column")
        assert await totals(one) == [7 - without, 1 + without, 4]
    check(tmp_path, way, [0, 2, 5, 6], [1, 3], ("processing-failed", NOTHING))


@pytest.mark.parametrize("way", WAYS)
async def test_pieces_between_delimiters(tmp_path: Path, way: str) -> None:
    """So do delimited pieces. One that is no JSON is a letter, and those beside it are not."""
    apart = {"type": "deaggregate", "sub_record_type": "delimited", "delimiter": "####"}
    async with running(tmp_path, {"app": stream(tmp_path, way, apart)}) as one:
        await put(one, "####".join(PARTS[0]), "####".join([*PARTS[1], NOTHING]) + "####", '{"c":"a","n":6}')
        without = int(way != "column")
        assert await totals(one) == [7 - without, 1 + without, 5]
    check(tmp_path, way, [0, 2, 5, 6], [1, 3], (EXTRACTION, NOTHING))


async def test_too_many_to_be_taken_apart(tmp_path: Path) -> None:
    """A record of more than 500 objects passes whole, as AWS has it, and is no JSON that has a key."""
    apart = {"type": "deaggregate", "sub_record_type": "json"}
    many = ['{"c":"a","n":0}' * count for count in (500, 501)]
    async with running(tmp_path, {"app": stream(tmp_path, "query", apart)}) as one:
        await put(one, *many)
        assert await totals(one) == [500, 1, 499]
    assert parted(tmp_path) == {"c=a": [0] * 500}
    assert letters(tmp_path) == [(EXTRACTION, "Non JSON record provided", many[1])]


@pytest.mark.parametrize("way", ["query", "column"])
async def test_what_a_producer_packed(tmp_path: Path, way: str) -> None:
    """Records that the Kinesis Producer Library packed into one of a data stream are records of their own, and may
    hold several themselves.
    """
    apart = {"type": "deaggregate", "sub_record_type": "json"}
    source = {"type": "data_stream", "stream": "clicks", "start": "TRIM_HORIZON"}
    given = [packed([("k", None, part.encode()) for part in PARTS[0]])]
    given.append(packed([("k", None, "".join(PARTS[1]).encode()), ("k", None, NOTHING.encode())]))
    given.append(b'{"c":"a","n":6}')
    async with running(tmp_path, {}, data_stream_defaults={"transition_seconds": 0}) as one:
        await ask(one, "Kinesis_20131202.CreateStream", StreamName="clicks", ShardCount=1)
        for record in given:
            data = {"Data": b64encode(record).decode(), "PartitionKey": "k"}
            await ask(one, "Kinesis_20131202.PutRecord", StreamName="clicks", **data)
        await one.reload({"app": stream(tmp_path, way, apart, source=source)})
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await one.streams())["app"]["accepted"] < 6:
                pass
        without = int(way != "column")
        assert await totals(one) == [7 - without, 1 + without, 2]
    check(tmp_path, way, [0, 2, 5, 6], [1, 3], ("processing-failed", NOTHING))


def check(root: Path, way: str, in_a: list[int], in_b: list[int], bad: tuple[str, str]) -> None:
    """Which numbers lie where; `bad` is a record that no partition has, and number 4 has no key."""
    found = parted(root)
    assert {name: found.pop(name) for name in ("c=a", "c=b")} == {"c=a": in_a, "c=b": in_b}
    told = [(kind, record) for kind, _, record in letters(root)]
    if way == "column":
        assert (found, told) == ({f"c={NO_VALUE}": [4]}, [bad])
    else:
        assert (found, told) == ({}, sorted([(EXTRACTION, PARTS[1][1]), bad]))
