"""Dead letters of a whole service: how many there are of a record, and where they lie."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from running import NEVER, Running, imbalances, running, to_folder

PARTS = {"type": "deaggregate", "sub_record_type": "json"}


HOOK = """
def clean(record: bytes):
    if b"bad" in record:
        raise ValueError("no good")
    return None if b"drop" in record else record.upper()
"""


async def put(one: Running, record: bytes) -> None:
    """With the AWS API, which takes a record for what it is."""
    body = {"DeliveryStreamName": "app", "Record": {"Data": b64encode(record).decode()}}
    target = {"X-Amz-Target": "Firehose_20150804.PutRecord", "Content-Type": "application/x-amz-json-1.1"}
    answer = await one.client.post("/", content=json.dumps(body), headers=target)
    assert answer.status_code == 200, answer.text


def letters(one: Running, folder: str = "errors") -> list[tuple[str, bytes]]:
    """Each letter's reason and record, in the order of the objects' names."""
    said = map(json.loads, one.files.records(folder))
    return [(letter["errorCode"], b64decode(letter["rawData"])) for letter in said]


def dead(streams: dict[str, Any]) -> dict[str, int]:
    return {name: place["dead"] for name, place in streams["app"]["destinations"].items()}


async def test_what_no_destination_saw_is_one_letter_for_all_of_them(tmp_path: Path) -> None:
    """Each destination counts a refused record as dead, and there is one letter of it: a replay brings it once."""
    ends = [{**to_folder(tmp_path, name), "name": name} for name in ("one", "two", "three")]
    stream = {"buffering": NEVER, "transforms": [PARTS], "destinations": ends, "max_record_kib": 1}
    async with running(tmp_path, {"app": {**stream, "errors": to_folder(tmp_path, "errors")}}) as one:
        await one.post("app", b'plain\n{"a":1}\n' + b"x" * 2000 + b"\n")
        await one.flush("app")
        assert sorted(letters(one)) == [
            ("Deaggregation.NotJsonObjects", b"plain\n"),
            ("Ingest.RecordTooLarge", b"x" * 2000),
        ]
        assert dead(await one.streams()) == {"one": 2, "two": 2, "three": 2}
        assert set(imbalances(await one.metrics()).values()) == {0.0}


async def test_what_a_destination_did_not_take_is_a_letter_of_its_own(tmp_path: Path) -> None:
    """Two destinations that give up leave a letter each: either of them lacks the record."""
    (tmp_path / "blocked").write_text("a file where a folder should be")
    ends = [{**to_folder(tmp_path, f"blocked/{name}"), "name": name} for name in ("one", "two")]
    stream = {"buffering": NEVER, "destinations": ends, "retry": {"deadline_seconds": 0}}
    async with running(tmp_path, {"app": {**stream, "errors": to_folder(tmp_path, "errors")}}) as one:
        await one.post("app", b"x\n")
        await one.flush("app")
        assert letters(one) == [("Delivery.DeadlineExceeded", b"x\n")] * 2
        assert dead(await one.streams()) == {"one": 1, "two": 1}


async def test_letters_hold_records_as_they_came(tmp_path: Path) -> None:
    """A record none of whose parts goes its way is one letter, whole; of one that others were made of, the part is."""
    (tmp_path / "hooks.py").write_text(HOOK)
    hook = {"type": "python", "handler": "hooks:clean", "path": str(tmp_path)}
    stream = {"buffering": NEVER, "transforms": [PARTS, hook], "destination": to_folder(tmp_path)}
    async with running(tmp_path, {"app": {**stream, "errors": to_folder(tmp_path, "errors")}}) as one:
        whole, half, lost = b'{"bad":1}{"bad":2}\n', b'{"good":3}{"bad":4}\n', b'{"drop":5}{"bad":6}\n'
        for body in (whole, half, lost):
            await put(one, body)
        await one.flush("app")
        assert letters(one) == [("Lambda.FunctionError", body) for body in (whole, b'{"bad":4}', lost)]
        assert one.files.records() == ['{"GOOD":3}']
        place = (await one.streams())["app"]["destinations"]["folder"]
        assert {key: place[key] for key in ("delivered", "dropped", "dead", "split")} == {
            "delivered": 1,
            "dropped": 1,
            "dead": 3,
            "split": 2,
        }
        assert set(imbalances(await one.metrics()).values()) == {0.0}


async def test_what_was_given_up_is_a_letter_as_it_came(tmp_path: Path) -> None:
    """What transforms made of a record could not go through them again: a letter of it holds what was sent to us."""
    (tmp_path / "out").write_text("a file where a folder should be")
    packed = gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":"a"},{"message":"b"}]}')
    unpack = {"type": "decompress", "message_extraction": True}
    split = {"type": "deaggregate", "sub_record_type": "delimited", "delimiter": "newline"}
    stream = {"buffering": NEVER, "transforms": [unpack, split], "retry": {"deadline_seconds": 0}}
    ends = {"destination": to_folder(tmp_path), "errors": to_folder(tmp_path, "errors")}
    async with running(tmp_path, {"app": {**stream, **ends}}) as one:
        await put(one, packed)
        await one.flush("app")
        assert letters(one) == [("Delivery.DeadlineExceeded", packed)]
        assert dead(await one.streams()) == {"folder": 1}
        assert set(imbalances(await one.metrics()).values()) == {0.0}


async def test_errors_without_a_prefix_lie_under_the_prefix_of_the_data(tmp_path: Path) -> None:
    """AWS's ErrorOutputPrefix null: beside the data of the first destination in the same place, for all of them."""
    ends = [to_folder(tmp_path, "lake", name=name, prefix=f"{name}/") for name in ("one", "two")]
    stream = {"buffering": NEVER, "transforms": [PARTS], "destinations": ends}
    async with running(tmp_path, {"app": {**stream, "errors": to_folder(tmp_path, "lake")}}) as one:
        await one.post("app", b'plain\n{"a":1}\n')
        await one.flush("app")
        assert letters(one, "lake/one/processing-failed") == [("Deaggregation.NotJsonObjects", b"plain\n")]
        assert sorted(path.name for path in (tmp_path / "lake").iterdir()) == [".partial", "one", "two"]
