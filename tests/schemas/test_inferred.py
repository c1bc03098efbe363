"""A schema that is inferred, kept, widened and pinned: which version a batch follows, and what if that fails."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, field, replace

import pytest
from batches import NOON, Notes, batch
from faulty_disk import Fault, FaultyDisk
from pydantic import ValidationError
from sites import site
from virtual_time import Inline

from firehose.contracts import Retry
from firehose.model import Batch
from firehose.registry import Shared
from firehose.schemas.inferred import InferOptions, Inferred
from firehose.schemas.versions import Versions

FOLDER = "/data/schemas/app/far"


@dataclass
class House:
    """One destination of a stream, over a disk that can fail."""

    options: InferOptions = field(default_factory=InferOptions)
    disk: FaultyDisk = field(default_factory=FaultyDisk)
    shared: Shared = field(default_factory=Shared)

    def source(self) -> Inferred:
        return Inferred(self.options, replace(site(Inline(), self.disk), schemas=FOLDER, shared=self.shared))

    @property
    def versions(self) -> Versions:
        return Versions(self.disk, FOLDER)


def of(*records: bytes, first: int = 0) -> Batch:
    return batch(list(records), first=first)


def test_first_batch() -> None:
    """It decides what the schema begins with, all of it, and says so; the next one follows that."""
    house, memo = House(), Notes()
    version = house.source().of(of(*[b'{"a":1}'] * 2000, b'{"b":1.5}'), memo)
    assert (version.number, version.schema.types(), version.whole) == (1, {"a": "bigint", "b": "double"}, True)
    assert memo.written == ['{"schema": 1, "whole": true}']
    later = house.source().of(of(b'{"c":1}'), Notes())
    assert (later.number, later.schema, later.whole) == (1, version.schema, False)


def test_nothing_to_infer() -> None:
    """Batches without a column follow version 0, which has none and no document; the first with one makes version 1."""
    house, memo = House(), Notes()
    source = house.source()
    version = source.of(of(b"no JSON", b"{}", b'{"a":null}'), memo)
    assert (version.number, version.schema.columns, version.whole) == (0, (), True)
    assert source.document(version) is None
    assert source.of(of(b'{"a":1}'), Notes()).number == 1
    assert house.source().of(of(b"no JSON"), memo) == version


def test_document() -> None:
    """Beside the data stands whose columns these are, and since the arrival of which record."""
    house = House()
    source = house.source()
    document = source.document(source.of(of(b'{"a":1}'), Notes()))
    assert document is not None
    said = json.loads(document)
    assert said["crc"]
    assert {key: said[key] for key in ("stream", "destination", "version", "columns", "since")} == {
        "stream": "app",
        "destination": "far",
        "version": 1,
        "columns": {"a": "bigint"},
        "since": NOON.isoformat(),
    }
    assert document == house.disk.read(f"{FOLDER}/v000001.json")


def test_pinned() -> None:
    """Batches follow the pinned version from the next one on, nothing is added, and unpinned it goes on as before."""
    house = House()
    source = house.source()
    first = source.of(of(b'{"a":1}'), Notes())
    source.widened(of(b'{"b":1}'), Notes())
    house.versions.pin(1)
    memo = Notes()
    version = source.of(of(b'{"c":1}'), memo)
    assert version == replace(first, whole=True)
    assert source.widened(of(b'{"c":1}'), memo) == version
    assert house.versions.numbers() == [1, 2]
    house.versions.pin(None)
    assert source.of(of(b'{"c":1}'), memo) == version
    assert source.of(of(b'{"c":1}'), Notes()).number == 2
    assert source.widened(of(b'{"c":1}'), Notes()).schema.types().keys() == {"a", "b", "c"}


def test_pinned_meanwhile() -> None:
    """A batch that follows a version already is never given a narrower one, whatever is pinned."""
    house, memo = House(), Notes()
    source = house.source()
    source.of(of(b'{"a":1}'), Notes())
    source.widened(of(b'{"b":1}'), Notes())
    assert source.of(of(b'{"c":1}'), memo).number == 2
    house.versions.pin(1)
    assert source.widened(of(b'{"c":1}'), memo).number == 2


def test_pinned_to_what_is_not_there() -> None:
    """Then the stream waits and says so."""
    house = House()
    house.source().of(of(b'{"a":1}'), Notes())
    house.versions.pin(7)
    with pytest.raises(Retry, match=r"v000007\.json"):
        house.source().of(of(b'{"a":1}'), Notes())


def test_full() -> None:
    """Where there is no room for a column, nobody needs to ask for one."""
    house = House(InferOptions(max_columns=2))
    assert house.source().of(of(b'{"a":1,"b":1,"c":1}'), Notes()).schema.types().keys() == {"a", "b"}
    assert house.source().of(of(b'{"d":1}'), Notes()).whole
    assert not House(InferOptions(max_columns=3), house.disk).source().of(of(b'{"d":1}'), Notes()).whole


def test_options() -> None:
    """The bounds have bounds."""
    for wrong in ({"max_columns": 0}, {"max_columns": 10_001}, {"max_depth": 49}, {"columns": 1}):
        with pytest.raises(ValidationError):
            InferOptions.model_validate(wrong)


def test_a_disk_that_fails() -> None:
    """Nothing is noted where the version is not durable, and the next attempt goes well."""
    house, memo = House(), Notes()
    house.disk.faults = [Fault("sync", errno.EIO)]
    with pytest.raises(Retry):
        house.source().of(of(b'{"a":1}'), memo)
    assert memo.written == []
    assert house.source().of(of(b'{"a":1}'), memo).number == 1


def test_a_version_that_was_not_sure() -> None:
    """A version that is seen but may go with the next power cut is made durable before it is noted."""
    house = House()
    house.disk.make_folder(FOLDER)
    house.disk.faults = [Fault("sync_folder", errno.EIO, "/far")]
    with pytest.raises(Retry):
        house.source().of(of(b'{"a":1}'), Notes())
    assert house.versions.numbers() == [1]
    house.source().of(of(b'{"a":1}'), Notes())
    assert Versions(house.disk.after_power_cut(), FOLDER).numbers() == [1]


def test_a_crash_between_version_and_note() -> None:
    """A version that nobody follows is followed by whoever comes next."""
    house = House()
    with pytest.raises(Retry):
        house.source().of(of(b'{"a":1}'), Unwritable())
    assert house.versions.numbers() == [1]
    assert house.source().of(of(b'{"b":1}'), Notes()).schema.types() == {"a": "bigint"}


def test_a_damaged_version() -> None:
    """A batch waits for the version that it follows; nothing is inferred anew in its place."""
    house, memo = House(), Notes()
    house.source().of(of(b'{"a":1}'), memo)
    house.disk.flip(f"{FOLDER}/v000001.json", 30)
    for notes in (memo, Notes()):
        with pytest.raises(Retry, match="lies beside the data"):
            house.source().of(of(b'{"a":"x"}'), notes)
    assert house.versions.numbers() == [1]


def test_destinations_stay_apart() -> None:
    """Each folder has a schema and a lock of its own."""
    shared, disk = Shared(), FaultyDisk()
    for name, record in (("far", b'{"a":1}'), ("near", b'{"b":1}')):
        at = replace(site(Inline(), disk), schemas=f"/data/schemas/app/{name}", shared=shared)
        assert Inferred(InferOptions(), at).of(of(record), Notes()).number == 1


class Unwritable(Notes):
    def write(self, note: str) -> None:
        raise Retry("the ledger cannot be written")
