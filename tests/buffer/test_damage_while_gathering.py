"""Damage to the files of rows that wait for their partition, beside the running service: it is found before they go."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from random import Random

import pytest
from damage import Damaged, damages, may_be_lost
from disk_buffer import STREAM, batch
from parted import DROPPED, REFUSED, PartedBuffer
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.buffer import cut_rows, layout, reading
from firehose.buffer.outcome import read
from firehose.delivery import parting

FAR, NEAR = "far", "near"
ROWS = [[b"a1" * 20, b"b1" * 20, REFUSED + b"1"], [b"a2" * 20, b"a3"], [b"b4" * 20, DROPPED + b"4", b"c4"]]
GOING = Counter(row for row in chain(*ROWS) if row[:1] not in (REFUSED, DROPPED))


async def gathering(bare: bool) -> PartedBuffer:
    """Two segments whose rows wait, the first of two frames."""
    buffer = PartedBuffer((FAR, NEAR))
    if bare:
        buffer.leave_records_as_they_come()
    await buffer.start()
    await buffer.appender.append(batch(*ROWS[0]))
    await buffer.put(*ROWS[1])
    await buffer.put(*ROWS[2])
    await buffer.idle()
    return buffer


def end(buffer: PartedBuffer) -> None:
    for task in buffer.tasks:
        task.cancel()


def possible(bare: bool, suffix: str, share: float) -> list[Damaged]:
    """A share of what can befall the files with this suffix."""

    async def tree() -> dict[str, bytes | None]:
        buffer = await gathering(bare)
        end(buffer)
        return {path: buffer.disk.read(path) for path in buffer.paths(suffix)}

    return list(damages(run(tree()), Random(7), share))


@pytest.mark.parametrize("suffix", [layout.SEALED, layout.OUT])
@pytest.mark.parametrize("bare", [True, False])
def test_every_kind_of_damage(bare: bool, suffix: str) -> None:
    """No row arrives that was not sent, none twice, and none is held. What is missing was in a damaged frame, nowhere
    else, and is counted and told.
    """

    async def scenario(damaged: Damaged) -> int:
        buffer = await gathering(bare)
        content = buffer.disk.read(damaged.path)
        buffer.disk.put(damaged.path, damaged.content)
        buffer.shelf.flush(STREAM)
        await passed(300)
        name = damaged.path.rpartition(".")[0]  # the file is kept under another ending
        lost = may_be_lost({damaged.path: content}, damaged) if bare else set()
        standings = buffer.shelf.standings()
        for destination in (FAR, NEAR):
            missing, standing = GOING - buffer.far[destination].rows(), standings[STREAM, destination]
            assert buffer.far[destination].rows() - GOING == Counter(), damaged.how
            assert missing.keys() <= lost, damaged.how
            assert missing.total() == standing.totals.damaged, damaged.how
            assert (standing.pending, standing.held) == (0, 0), damaged.how
            assert not missing or any(name in said and "offset" in said for said in buffer.reports), damaged.how
        buffer.check_sums()
        end(buffer)
        return missing.total()

    ends = [run(scenario(damaged)) for damaged in possible(bare, suffix, share=0.01)]
    assert len(ends) > 20
    assert any(ends) == (bare and suffix == layout.SEALED)


@pytest.mark.parametrize("bare", [True, False])
def test_nothing_is_doubted_without_damage(bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of outcomes that have no row, or none of a partition, either."""
    monkeypatch.setattr(parting, "SLICE_BYTES", 1)
    monkeypatch.setattr(parting, "BARE_ROWS", 1)
    monkeypatch.setattr(reading, "WHOLE_BYTES", 1)

    async def scenario() -> None:
        buffer = PartedBuffer()
        if bare:
            buffer.leave_records_as_they_come()
        await buffer.start()
        for records in ([b"a1"], [REFUSED], [b"b2", DROPPED], [DROPPED], [b"a3"]):
            await buffer.appender.append(batch(*records))
        await buffer.appender.seal()
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        outcomes = read(buffer.disk, path) or []
        with capture_logs() as log:
            await buffer.flush()
        end(buffer)
        assert [one.rows.num_rows for one in outcomes] == ([1, 1, 1] if bare else [1, 0, 1, 0, 1])
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1", b"a3"], [b"b2"]]
        assert [event for event in log if event["log_level"] in ("warning", "error")] == []

    run(scenario())


def test_damage_is_no_failure_of_the_destination() -> None:
    """Not where it is met in the middle of a delivery: no row becomes a letter for it."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        buffer.deadline_seconds = 0
        await buffer.start()
        for number in range(3):
            await buffer.put(b"a%d" % number * 40)
        await buffer.idle()
        buffer.disk.flip(buffer.paths(layout.OUT)[2], 400)
        buffer.shelf.flush(STREAM)
        await passed(300)
        assert (buffer.far[FAR].rows().total(), buffer.letters()) == (3, 0)
        end(buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut_rows, "PIECE_BYTES", 100)
        run(scenario())
