"""Every source of schemas keeps the laws of its door, and no law is so weak that a wrong one keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from batches import Notes
from conformance import schema_source as suite
from conformance.schema_source import LAWS, Law, some
from faulty_disk import FaultyDisk
from sites import site
from virtual_time import Inline

from firehose.contracts import Memo
from firehose.model import Batch
from firehose.registry import Shared
from firehose.schemas.inferred import InferOptions, Inferred
from firehose.schemas.source import SchemaSource, SchemaVersion
from firehose.table_schema import TableSchema


@dataclass
class InferredOnDisk:
    """Inferred ones over one folder, in one process."""

    kind: type[Inferred] = Inferred
    disk: FaultyDisk = field(default_factory=FaultyDisk)
    shared: Shared = field(default_factory=Shared)

    def make(self) -> SchemaSource:
        at = replace(site(Inline(), self.disk), schemas="/data/schemas/app/far", shared=self.shared)
        return self.kind(InferOptions(), at)

    def change(self) -> None:
        self.make().widened(some(100, b'{"changed":true}'), Notes())


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_inferred(law: Law) -> None:
    """Inferred, kept, widened."""
    law(InferredOnDisk())


# Wrong ones.


class SaysNothing(Inferred):
    """Notes no version."""

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        return super().of(batch, Notes())


class NotesEverything(Inferred):
    """Notes each answer again, and only thinks of what it noted itself."""

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        for note in reversed(memo.read()):
            if "schema" in note:
                break
        else:
            return super().of(batch, memo)
        return super().of(batch, _Since(memo))


class _Since(Notes):
    """Shows nothing of what was written before."""

    def __init__(self, memo: Memo) -> None:
        super().__init__()
        self._memo = memo

    def write(self, note: str) -> None:
        self._memo.write(note)


class Trusting(Inferred):
    """Takes the last note for its own."""

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        for note in memo.read()[-1:]:
            assert isinstance(json.loads(note)["schema"], int)
        return super().of(batch, memo)


class Forgets(Inferred):
    """Begins anew with each widening."""

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        said = batch.segment.opened_at.isoformat()
        version = self._versions.add(TableSchema.parsed({f"only{batch.segment.first}": "bigint"}), {"since": said})
        memo.write(f'{{"schema": {version.number}, "whole": true}}')
        return version


class Restless(Inferred):
    """Adds a version for nothing."""

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        version = super().widened(batch, memo)
        return self._versions.add(version.schema, {})


class Unlocked(Inferred):
    """Two batches may take the same number: here they always do."""

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        version = super().widened(batch, memo)
        return replace(version, number=version.number if batch.segment.first == 100 else 1)


class TellsTheTime(Inferred):
    """Its documents change."""

    ticks = count()

    def document(self, version: SchemaVersion) -> bytes | None:
        return b'{"version": %d, "columns": {}, "now": %d}' % (version.number, next(self.ticks))


WRONG: Mapping[type[Inferred], tuple[Law, ...]] = {
    SaysNothing: (suite.noted_before_it_is_said, suite.noted_or_nothing),
    NotesEverything: (suite.same_again,),
    Trusting: (suite.other_notes_are_passed_over,),
    Forgets: (suite.versions_only_widen, suite.widened_for_all),
    Restless: (suite.nothing_new_is_no_version,),
    Unlocked: (suite.side_by_side,),
    TellsTheTime: (suite.documents_stay,),
}


@pytest.mark.parametrize(("kind", "law"), [(kind, law) for kind, laws in WRONG.items() for law in laws])
def test_canaries(kind: type[Inferred], law: Law) -> None:
    """A source that breaks a law is found out by it."""
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        law(InferredOnDisk(kind))


def test_every_law_has_a_canary() -> None:
    """A law that nothing breaks proves nothing."""
    assert {law for laws in WRONG.values() for law in laws} == set(LAWS)
