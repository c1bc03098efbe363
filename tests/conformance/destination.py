"""The laws of a destination (`firehose.contracts.Destination`), to be run over every implementation.

A law is a function of a harness. Test modules parametrize over `LAWS`, and prove with canaries that each of
them can fail. The suite judges only what a reader of the far side can see, never how it came there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import pyarrow as pa
import pytest
from batches import NOON, Notes, batch, segment

from firehose import partitions
from firehose.contracts import Destination, Refused, Retry
from firehose.model import Batch


class Harness(Protocol):
    """How the suite handles one far side, which is empty at first."""

    large_bytes: int  # more than the destination sends in one go

    def make(self) -> Destination:
        """A new instance over the same far side and with the same options, as after a restart."""
        ...

    def missing(self) -> Destination:
        """One whose far side is not there, or may not be written to."""
        ...

    def contents(self) -> Mapping[str, bytes]:
        """Every object that a reader sees, by name, decompressed. Records stand in it without a delimiter."""
        ...

    def fail_next(self) -> None:
        """The far side fails the next delivery before it has stored anything, in a way that may pass."""
        ...

    def lose_next_reply(self) -> None:
        """The far side stores the next delivery, but the destination does not hear so."""
        ...


Law = Callable[[Harness], Awaitable[None]]


def records(tag: str, count: int = 3) -> list[bytes]:
    return [f'{{"from":"{tag}","n":{number}}}'.encode() for number in range(count)]


async def stored_once(harness: Harness) -> None:
    """A delivery makes one object, which holds the batch's records in order; the receipt tells its name."""
    destination = harness.make()
    receipt = await destination.deliver(batch(records("a")), Notes())
    await destination.close()
    assert harness.contents() == {receipt.objects[0]: b"".join(records("a"))}
    assert receipt.sent_bytes > 0
    assert not len(receipt.refused)


async def twice_is_once(harness: Harness) -> None:
    """The same batch delivered twice by one instance is there once."""
    destination, memo = harness.make(), Notes()
    first = await destination.deliver(batch(records("a")), memo)
    again = await destination.deliver(batch(records("a")), memo)
    await destination.close()
    assert first.objects == again.objects
    assert list(harness.contents().values()) == [b"".join(records("a"))]


async def restart_is_once(harness: Harness) -> None:
    """The same batch delivered again after a restart is there once."""
    memo = Notes()
    for _ in range(2):
        destination = harness.make()
        await destination.deliver(batch(records("a")), memo)
        await destination.close()
    assert list(harness.contents().values()) == [b"".join(records("a"))]


async def lost_reply_is_once(harness: Harness) -> None:
    """A delivery whose reply was lost asks for a retry, and the retry leaves the object there once."""
    destination, memo = harness.make(), Notes()
    harness.lose_next_reply()
    with pytest.raises(Retry):
        await destination.deliver(batch(records("a")), memo)
    await destination.deliver(batch(records("a")), memo)
    await destination.close()
    assert list(harness.contents().values()) == [b"".join(records("a"))]


async def failure_is_a_retry(harness: Harness) -> None:
    """A far side that fails for a while stores nothing; a retry is asked for, with a reason, and succeeds."""
    destination, memo = harness.make(), Notes()
    harness.fail_next()
    with pytest.raises(Retry) as told:
        await destination.deliver(batch(records("a")), memo)
    assert told.value.reason
    assert harness.contents() == {}
    await destination.deliver(batch(records("a")), memo)
    await destination.close()
    assert list(harness.contents().values()) == [b"".join(records("a"))]


async def segments_stay_apart(harness: Harness) -> None:
    """Segments that differ in stream, lane, first record, version or instant never share an object."""
    of = segment(records("a"))
    kin = [
        of,
        replace(of, stream="other"),
        replace(of, lane="20260301T120000-fedcba9876543210"),
        replace(of, first=3),
        replace(of, version=2),
        replace(of, opened_at=NOON + timedelta(days=1)),
    ]
    destination = harness.make()
    for number, one in enumerate(kin):
        await destination.deliver(batch(records(f"s{number}"), of=one), Notes())
    await destination.close()
    wanted = sorted(b"".join(records(f"s{number}")) for number in range(len(kin)))
    assert sorted(harness.contents().values()) == wanted


async def partitions_stay_apart(harness: Harness) -> None:
    """Cuts of one segment that differ in partition never share an object."""
    destination = harness.make()
    for colour in ("red", "green"):
        partition = partitions.encode([(partitions.FROM_COLUMN, "colour", colour)])
        await destination.deliver(batch(records(colour), of=segment(records("a")), partition=partition), Notes())
    await destination.close()
    wanted = sorted(b"".join(records(colour)) for colour in ("red", "green"))
    assert sorted(harness.contents().values()) == wanted


async def names_come_from_the_segment(harness: Harness) -> None:
    """How a batch is cut into slices, and what its records say, does not show in an object's name."""
    destination, of = harness.make(), segment(records("a"))
    names = {
        (await destination.deliver(batch(said, of=of, rows_per_slice=rows), Notes())).objects
        for said, rows in ((records("a"), 1), (records("a"), 3), (records("b"), 2))
    }
    await destination.close()
    assert len(names) == 1
    assert set(harness.contents()) == set(names.pop())


async def empty_records_are_stored(harness: Harness) -> None:
    """Empty records disturb nothing, and a batch of nothing else still makes its object."""
    destination = harness.make()
    await destination.deliver(batch([b"", b"x", b""]), Notes())
    await destination.deliver(batch([b""], first=3), Notes())
    await destination.close()
    assert sorted(harness.contents().values()) == [b"", b"x"]


async def any_bytes_are_stored(harness: Harness) -> None:
    """Records are opaque: every byte arrives as it was given."""
    every = bytes(range(256))
    destination = harness.make()
    await destination.deliver(batch([every, b"\r\n", b"\x00" * 70_000, "\u00e9".encode()]), Notes())
    await destination.close()
    assert list(harness.contents().values()) == [every + b"\r\n" + b"\x00" * 70_000 + "\u00e9".encode()]


async def large_batch_is_whole(harness: Harness) -> None:
    """A batch too large for one go is stored whole, and once when it is delivered again."""
    many = large_records(harness)
    destination, memo = harness.make(), Notes()
    for _ in range(2):
        await destination.deliver(batch(many, rows_per_slice=7), memo)
    await destination.close()
    (stored,) = harness.contents().values()
    assert len(stored) == sum(map(len, many))
    assert stored == b"".join(many)


async def half_a_batch_is_nothing(harness: Harness) -> None:
    """A batch that cannot be read to its end leaves nothing under its name, and the error passes."""
    destination = harness.make()
    for said in (records("a"), large_records(harness)):
        with pytest.raises(ReadFailed):
            await destination.deliver(unreadable(said), Notes())
    await destination.close()
    assert harness.contents() == {}


async def deliveries_run_together(harness: Harness) -> None:
    """Segments delivered at the same time do not disturb each other."""
    destination = harness.make()
    batches = [batch(records(f"b{number}", 50), first=100 * number, rows_per_slice=5) for number in range(8)]
    await asyncio.gather(*(destination.deliver(one, Notes()) for one in batches))
    await destination.close()
    wanted = sorted(b"".join(records(f"b{number}", 50)) for number in range(8))
    assert sorted(harness.contents().values()) == wanted


async def close_may_be_repeated(harness: Harness) -> None:
    """Closing twice is fine, used or not."""
    unused, used = harness.make(), harness.make()
    await used.deliver(batch(records("a")), Notes())
    for destination in (unused, unused, used, used):
        await destination.close()


async def check_leaves_no_trace(harness: Harness) -> None:
    """A check of a good place passes, as often as one likes, and a reader sees nothing of it."""
    destination = harness.make()
    await destination.check()
    await destination.check()
    await destination.close()
    assert harness.contents() == {}


async def check_finds_what_is_missing(harness: Harness) -> None:
    """A check of a place that is not there says so; so does a delivery to it, as a retry or a refusal."""
    destination = harness.missing()
    with pytest.raises((Retry, Refused)) as checked:
        await destination.check()
    with pytest.raises((Retry, Refused)):
        await destination.deliver(batch(records("a")), Notes())
    await destination.close()
    assert str(checked.value)


LAWS: tuple[Law, ...] = (
    stored_once,
    twice_is_once,
    restart_is_once,
    lost_reply_is_once,
    failure_is_a_retry,
    segments_stay_apart,
    partitions_stay_apart,
    names_come_from_the_segment,
    empty_records_are_stored,
    any_bytes_are_stored,
    large_batch_is_whole,
    half_a_batch_is_nothing,
    deliveries_run_together,
    close_may_be_repeated,
    check_leaves_no_trace,
    check_finds_what_is_missing,
)


class ReadFailed(Exception):
    """The batch's own trouble, none of the destination's."""


def large_records(harness: Harness) -> list[bytes]:
    """Twice the large size, and no multiple of any power of two; each record differs."""
    size = 100_003
    return [number.to_bytes(4, "big") * (size // 4) for number in range(2 * harness.large_bytes // size + 2)]


def unreadable(said: list[bytes]) -> Batch:
    """A batch whose last slice cannot be read."""
    whole = batch(said, rows_per_slice=2)

    def read() -> Iterator[pa.RecordBatch]:
        *readable, _ = whole.slices()
        yield from readable
        raise ReadFailed

    return Batch(whole.segment, read)
