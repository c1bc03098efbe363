"""The laws of a schema's source (`firehose.schemas.source`), to be run over every implementation.

A law is a function of a harness. Test modules parametrize over `LAWS`, and prove with canaries that each of them can
fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol

import pyarrow as pa
import pytest
from batches import Notes, batch

from firehose.contracts import Retry
from firehose.model import Batch
from firehose.schemas.source import SchemaSource, SchemaVersion
from firehose.table_schema import TableSchema


class Harness(Protocol):
    """How the suite handles one source, which nobody has asked for anything at first."""

    def make(self) -> SchemaSource:
        """A new instance with the same options, as after a restart."""
        ...

    def change(self) -> None:
        """From now on the newest schema is another one, where there may ever be one. Never with narrower columns."""
        ...


Law = Callable[[Harness], None]
OTHERS = ('{"upload": "x"}', "no JSON", "[1]", '{"schema": "x"}')


def some(first: int = 0, *more: bytes) -> Batch:
    return batch([b'{"id":1,"name":"a"}', b'{"id":2,"name":"b"}', *more], first=first)


def keeps(before: TableSchema, after: TableSchema) -> bool:
    """Whether every column is still there, and each value of it fits as before: structs may have more fields."""
    later = after.arrow
    return all(
        name in later.names and _keeps(before.arrow.field(name).type, later.field(name).type)
        for name, _ in before.columns
    )


def _keeps(before: pa.DataType, after: pa.DataType) -> bool:
    if pa.types.is_struct(before) and pa.types.is_struct(after):
        names = {field.name: field.type for field in after}
        return all(field.name in names and _keeps(field.type, names[field.name]) for field in before)
    if pa.types.is_list(before) and pa.types.is_list(after):
        return _keeps(before.value_type, after.value_type)
    return bool(before == after)


def noted_before_it_is_said(harness: Harness) -> None:
    """The version that a batch follows stands in its memo, by its number, when the answer comes."""
    memo = Notes()
    version = harness.make().of(some(), memo)
    assert [json.loads(note)["schema"] for note in memo.written] == [version.number]


def noted_or_nothing(harness: Harness) -> None:
    """Where the memo cannot be written, there is no answer."""
    with pytest.raises(Retry):
        harness.make().of(some(), Unwritable())


def same_again(harness: Harness) -> None:
    """A batch that follows a version follows it for ever: another time, after a restart, when there is a newer one."""
    memo, source = Notes(), harness.make()
    version = source.of(some(), memo)
    assert source.of(some(), memo) == version
    harness.change()
    for again in (source, harness.make(), harness.make()):
        assert again.of(some(), memo) == version
    assert len(memo.written) == 1


def other_notes_are_passed_over(harness: Harness) -> None:
    """What others wrote into the memo changes nothing, before or behind our note."""
    source, memo = harness.make(), Notes()
    memo.written += OTHERS
    version = source.of(some(), memo)
    memo.written += OTHERS
    assert source.of(some(), memo) == version == harness.make().of(some(), memo)


def versions_only_widen(harness: Harness) -> None:
    """A later batch follows that version or one with a higher number that keeps the columns."""
    source = harness.make()
    before = source.of(some(), Notes())
    harness.change()
    after = harness.make().of(some(2), Notes())
    assert after == before or after.number > before.number
    if source.grows:
        assert keeps(before.schema, after.schema)


def documents_stay(harness: Harness) -> None:
    """What is set down beside the data for a version is JSON, and the same bytes each time."""
    source = harness.make()
    version = source.of(some(), Notes())
    document = source.document(version)
    harness.change()
    assert harness.make().document(version) == document
    if document is not None:
        said = json.loads(document)
        assert (said["version"], said["columns"]) == (version.number, version.schema.types())


def widened_for_all(harness: Harness) -> None:
    """A widened version keeps what was there and adds what the batch holds; it is noted, and followed from then on."""
    source, memo = harness.make(), Notes()
    if not source.grows:
        return
    of = some(0, b'{"more":{"x":1.5}}')
    before = source.of(some(2), Notes())
    source.of(of, memo)
    after = source.widened(of, memo)
    assert keeps(before.schema, after.schema)
    assert after.schema.types()["more"] == "struct<x:double>"
    assert after.whole
    assert harness.make().of(of, memo) == after
    assert harness.make().of(some(4), Notes()).schema == after.schema


def nothing_new_is_no_version(harness: Harness) -> None:
    """A batch that holds nothing new makes no version."""
    source, memo = harness.make(), Notes()
    version = source.of(some(), memo)
    if source.grows:
        again = source.widened(some(2), Notes())
        assert (again.number, again.schema) == (version.number, version.schema)


def side_by_side(harness: Harness) -> None:
    """Batches that are under way together lose none of each other's columns."""
    source = harness.make()
    if not source.grows:
        return

    def follow(number: int) -> SchemaVersion:
        memo, of = Notes(), some(number, b'{"c%d":1}' % number)
        mine = harness.make() if number % 2 else source
        mine.of(of, memo)
        return mine.widened(of, memo)

    with ThreadPoolExecutor(4) as threads:
        found = sorted(threads.map(follow, range(8)), key=lambda version: version.number)
    for before, after in pairwise(found):
        assert keeps(before.schema, after.schema)
        assert before.number < after.number or before.schema == after.schema
    assert {f"c{number}" for number in range(8)} <= found[-1].schema.types().keys()


class Unwritable(Notes):
    def write(self, note: str) -> None:
        raise Retry("the ledger cannot be written")


LAWS: list[Law] = [
    noted_before_it_is_said,
    noted_or_nothing,
    same_again,
    other_notes_are_passed_over,
    versions_only_widen,
    documents_stay,
    widened_for_all,
    nothing_new_is_no_version,
    side_by_side,
]
