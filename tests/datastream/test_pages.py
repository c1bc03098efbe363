"""Pages: what readers of one place share, and when it is read anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pyarrow as pa
import pytest
import virtual_time
from memory_streams import MemoryLog
from virtual_time import START_MS

from firehose.datastream import pages, sequence
from firehose.datastream.encoding import CBOR, JSON, EncodedRecords
from firehose.datastream.model import SHARD_SCHEMA, Definition, Run, Shard
from firehose.datastream.pages import Found, Pages, Wanted

SHARD = Shard(0, 0, sequence.KEY_SPACE - 1, 1_700_000_000, 1_700_000_000_000)
CLICKS = Definition("clicks", "clicks-1", 0, "ACTIVE", "PROVISIONED", (SHARD,))


def rows(*data: bytes) -> pa.RecordBatch:
    columns = [pa.array(data, pa.binary()), pa.nulls(len(data), pa.int64()), pa.array(["k"] * len(data))]
    return pa.RecordBatch.from_arrays(columns, schema=SHARD_SCHEMA)


class CountedLog(MemoryLog):
    """Every read takes a turn of the loop; so many fail first."""

    def __init__(self) -> None:
        super().__init__(lambda: START_MS)
        self.reads = 0
        self.failures = 0

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        self.reads += 1
        run = await super().read(position, most_records, most_bytes)
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is gone")
        return run


class Desk:
    """Readers of a shard of three appends, a record each."""

    def __init__(self, encoded: EncodedRecords | None = None) -> None:
        self.log = CountedLog()
        self.pages = Pages(encoded)
        self.first = 0

    async def filled(self) -> Desk:
        self.first = (await self.log.append(rows(b"1"))).first
        await self.log.append(rows(b"2"))
        await self.log.append(rows(b"3"))
        return self

    async def find(self, offset: int = 0, most_records: int = 2) -> Found:
        wanted = Wanted(self.first + offset, most_records, 1 << 20)
        return await self.pages.find(CLICKS, SHARD, self.log, wanted, JSON)


def test_many_who_ask_at_once_share_a_read() -> None:
    """And what was encoded: they get the very same bytes, then and later."""

    async def main() -> None:
        desk = await Desk().filled()
        found = await asyncio.gather(*(desk.find() for _ in range(9)))
        found.append(await desk.find())
        assert desk.log.reads == 1
        (page, pieces), *others = found
        assert (len(pieces), page.next, page.waiting_ms) == (2, desk.first + 2, START_MS)
        assert all(one is other for _, same in others for one, other in zip(same, pieces, strict=True))

    virtual_time.run(main())


def test_a_full_page_stays_and_one_at_the_tip_grows() -> None:
    """An append changes nothing that ends before it; a page that reached the tip is read anew."""

    async def main() -> None:
        desk = await Desk().filled()
        await desk.find()
        (at_tip, pieces) = await desk.find(2)
        assert (len(pieces), at_tip.next, at_tip.waiting_ms) == (1, desk.log.tip, None)
        await desk.find(2)
        assert desk.log.reads == 2
        await desk.log.append(rows(b"4"))
        await desk.find()
        assert desk.log.reads == 2
        page, pieces = await desk.find(2)
        assert (desk.log.reads, len(pieces), page.next) == (3, 2, desk.log.tip)

    virtual_time.run(main())


def test_a_page_that_was_overtaken_is_read_anew() -> None:
    """What is appended while a page of the tip is read is in the next one."""

    async def main() -> None:
        desk = await Desk().filled()
        reading = asyncio.ensure_future(desk.find(3))
        await asyncio.sleep(0)
        await desk.log.append(rows(b"4"))
        await reading
        assert len((await desk.find(3))[1]) == 1

    virtual_time.run(main())


def test_pages_are_apart() -> None:
    """Other bounds, formats, keys, shards and streams are other pages."""

    async def main() -> None:
        desk = await Desk().filled()
        await desk.find()
        await desk.find(most_records=1)
        wanted = Wanted(desk.first, 2, 1 << 20)
        await desk.pages.find(CLICKS, SHARD, desk.log, wanted, CBOR)
        await desk.pages.find(CLICKS, replace(SHARD, number=1), desk.log, wanted, JSON)
        for other in (replace(CLICKS, id="clicks-2"), replace(CLICKS, key_id="alias/aws/kinesis")):
            await desk.pages.find(other, SHARD, desk.log, wanted, JSON)
        assert desk.log.reads == 6

    virtual_time.run(main())


def test_whoever_waits_reads_when_the_first_one_fails() -> None:
    """A failed read is its reader's alone."""

    async def main() -> None:
        desk = await Desk().filled()
        desk.log.failures = 1
        first, second = await asyncio.gather(desk.find(), desk.find(), return_exceptions=True)
        assert isinstance(first, OSError)
        assert isinstance(second, tuple)
        assert len(second[1]) == 2
        assert desk.log.reads == 2

    virtual_time.run(main())


def test_what_is_no_longer_kept_is_read_again() -> None:
    """A page of which bytes are gone is whole again at the next look."""

    async def main() -> None:
        desk = await Desk(EncodedRecords(limit_bytes=1000)).filled()
        _, pieces = await desk.find()
        for _ in range(9):
            await desk.log.append(rows(b"x"))
        await desk.find(3, 9)
        assert (await desk.find())[1] == pieces
        assert desk.log.reads == 3

    virtual_time.run(main())


def test_so_many_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest pages are forgotten first, by how many pieces they have, and nothing stays of those who waited."""
    monkeypatch.setattr(pages, "NAMES", 3)

    async def main() -> None:
        desk = await Desk().filled()
        await desk.find(0, 1)
        await desk.find(0, 2)
        for _ in range(3):
            await desk.log.append(rows(b"x"))
            await desk.find(5, 1)
        assert desk.log.reads == 5
        await desk.find(0, 2)
        assert desk.log.reads == 5
        await desk.find(0, 1)
        assert desk.log.reads == 6
        assert not desk.pages._turns

    virtual_time.run(main())
