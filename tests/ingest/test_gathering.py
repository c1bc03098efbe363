"""Single records: one append for each burst, everyone told of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from firehose.contracts import Full, Unsure
from firehose.ingest.gathering import GATHERED_BYTES, Gathering
from firehose.model import Origin, Position


@dataclass
class Appended:
    """An appender that keeps what each append brought, and fails or waits when it is told to."""

    appends: list[list[bytes]] = field(default_factory=list)
    failure: BaseException | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        first = sum(map(len, self.appends))
        self.appends.append(records.column("record").to_pylist())
        self.asked.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Position("lane", first, records.num_rows)

    def origins(self) -> Mapping[str, Origin]:
        return {}


async def test_burst() -> None:
    """Records of one turn are one append, in their order, and each is told its own number."""
    appender = Appended()
    singles = Gathering(appender)
    sent = [b"%d" % number for number in range(100)]
    positions = await asyncio.gather(*map(singles.append, sent))
    assert appender.appends == [sent]
    assert positions == [Position("lane", number, 1) for number in range(100)]


async def test_burst_of_a_service_that_ends() -> None:
    """An append that is cancelled under a burst leaves nobody waiting."""
    singles = Gathering(Appended(failure=asyncio.CancelledError()))
    ends = await asyncio.wait_for(
        asyncio.gather(singles.append(b"1"), singles.append(b"2"), return_exceptions=True), 10
    )
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2


async def test_lone_record() -> None:
    """A record that comes alone waits for nobody."""
    appender = Appended()
    singles = Gathering(appender)
    assert await singles.append(b"1") == Position("lane", 0, 1)
    assert await singles.append(b"2") == Position("lane", 1, 1)
    assert appender.appends == [[b"1"], [b"2"]]


async def test_next_burst_does_not_wait() -> None:
    """What comes while a burst is being committed is appended at once, so that the buffer forms the groups."""
    appender = Appended()
    appender.gate.clear()
    singles = Gathering(appender)
    waiting = []
    for record in (b"1", b"2"):
        waiting.append(asyncio.create_task(singles.append(record)))
        await appender.asked.wait()
        appender.asked.clear()
    assert appender.appends == [[b"1"], [b"2"]]
    appender.gate.set()
    assert [position.first for position in await asyncio.gather(*waiting)] == [0, 1]


@pytest.mark.parametrize("failure", [Full("full"), Unsure("unsure"), ZeroDivisionError("a bug")])
async def test_failure(failure: Exception) -> None:
    """A failed append is everybody's failure, and the next one has a chance of its own."""
    appender = Appended(failure=failure)
    singles = Gathering(appender)
    ended = await asyncio.gather(singles.append(b"1"), singles.append(b"2"), return_exceptions=True)
    assert list(ended) == [failure, failure]
    appender.failure = None
    assert (await singles.append(b"3")).count == 1


async def test_given_up() -> None:
    """Whoever gives up takes nobody along: the burst is appended, and the others hear of it."""
    appender = Appended()
    appender.gate.clear()
    singles = Gathering(appender)
    leaver, stayer = (asyncio.create_task(singles.append(record)) for record in (b"1", b"2"))
    await appender.asked.wait()
    leaver.cancel()
    appender.gate.set()
    assert await stayer == Position("lane", 1, 1)
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert appender.appends == [[b"1", b"2"]]


async def test_large_ones_go_alone() -> None:
    """A large record is an append of its own, so that a burst of many stays small."""
    appender = Appended()
    singles = Gathering(appender)
    large = b"a" * (GATHERED_BYTES + 1)
    await asyncio.gather(singles.append(b"1"), singles.append(large), singles.append(b"2"))
    assert sorted(map(len, appender.appends)) == [1, 2]
