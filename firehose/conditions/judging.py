"""What a condition says of rows: which of them it wants, and of which it cannot tell.

It judges each row by itself, and the same rows alike every time. A row that cannot be judged is no match: it goes to
the error output, so that nobody misses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from firehose.hooks.program import PROCESSING_FAILED
from firehose.model import Outcome, Rejections
from firehose.rows import refused_each

GATHERED_BYTES = 8 * 1024 * 1024  # of rows that are put to a condition together
ASKED_ABOUT = ("record", "row", "part", "arrival_ms")

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]
Reason = tuple[str, str]  # code and message


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of rows, by index: those that match, and why others cannot be judged."""

    matches: Mask
    flaws: Mapping[int, Reason]

    def each(self, counts: Iterable[int]) -> Iterator[Judgement]:
        """What it says of the slices that the rows were put together from, so many rows each."""
        start = 0
        for count in counts:
            end = start + count
            flaws = {at - start: why for at, why in self.flaws.items() if start <= at < end}
            yield Judgement(self.matches[start:end], flaws)
            start = end

    def split(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejections]:
        """The rows that match, and those that cannot be judged."""
        if self.matches.all():
            return rows, Rejections()
        bad = sorted(self.flaws)
        refused = refused_each(rows.take(pa.array(bad, pa.int32())), PROCESSING_FAILED, [self.flaws[at] for at in bad])
        return rows.filter(pa.array(self.matches)), refused


class Condition(Protocol):
    """Which rows a destination wants. Threads share it."""

    def judge(self, rows: pa.RecordBatch, /) -> Judgement: ...

    async def close(self) -> None: ...


@runtime_checkable
class AskedCondition(Protocol):
    """The same, where a worker process judges, since it may loop or eat memory."""

    async def ask(self, rows: pa.RecordBatch, /) -> Judgement: ...

    async def close(self) -> None: ...


def told(outcome: Outcome, count: int) -> Judgement:
    """What a worker said of rows that are numbered from 0: it leaves those that match."""
    matches = np.zeros(count, bool)
    matches[outcome.rows.column("row").to_numpy()] = True
    refused = outcome.refused.table
    names = ("row", "code", "message")
    rows, codes, messages = (refused.column(name).to_pylist() for name in names)
    return Judgement(matches, dict(zip(rows, zip(codes, messages, strict=True), strict=True)))


def gathered(slices: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Slices in groups of about `GATHERED_BYTES`, with those columns that a condition is asked about."""
    held: list[pa.RecordBatch] = []
    size_bytes = 0
    for rows in slices:
        if held and size_bytes + rows.nbytes > GATHERED_BYTES:
            yield held
            held, size_bytes = [], 0
        held.append(rows.select(ASKED_ABOUT))
        size_bytes += rows.nbytes
    if held:
        yield held
