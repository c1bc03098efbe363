"""Damage to the files of data streams, and the look at what follows.

Whatever befalls one file, the streams start, every record that the damage did not touch is where it was, nothing is
there that nobody put, counters go on behind all that were given out, and what is damaged is said: in the log or by
`firehose buffer verify`, naming the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from crash_states import Crash, Tree
from damage import Damaged, files, may_be_lost, units
from faulty_disk import FaultyDisk
from live_streams import ROOT, StreamSite
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.buffer import inspect
from firehose.datastream.model import Definition

Placed = dict[int, tuple[bytes, int]]  # each record and its arrival, by its counter


@dataclass(slots=True)
class Kept:
    """What there is of the streams: their definitions, and of each shard its records; and what was said of damage."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    shards: dict[tuple[str, int], Placed] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def same(self, other: Kept) -> bool:
        return (self.definitions, self.shards) == (other.definitions, other.shards)


def given() -> Tree:
    """Two streams after a kill: lanes of two processes, full files and open ones, a shard that was split."""
    site = StreamSite()

    async def whole() -> None:
        await site.start()
        await site.create("clicks", 2)
        await site.create("other", 1)
        for number in range(5):
            await site.put("clicks", number % 2, b"a%d" % number * 100, b"b%d" % number * 100)
            await passed(1)
        await site.crash(power=False)
        await site.call("SplitShard", StreamName="clicks", ShardToSplit="0", NewStartingHashKey="1000")
        await passed(1)
        for number in range(3):
            await site.put("clicks", 1, b"c%d" % number * 90, b"d%d" % number * 90)
            await site.put("clicks", 2, b"e%d" % number * 90)
            await site.put("other", 0, b"f%d" % number)
            await passed(1)

    run(whole())
    return dict(files(site.disk))


def opened(tree: Tree) -> Kept:
    """Starts on the folder, reads all, and puts one more record into each shard that takes any: behind all others."""
    disk, kept = FaultyDisk(Crash(0, tree).root()), Kept()
    kept.said += [f"{one.path}, offset and what: {one.damage}" for one in inspect.verify(disk, ROOT) if one.damage]

    async def whole() -> None:
        site = StreamSite(disk)
        await site.start()
        for name, stream in site.streams.named.items():
            kept.definitions[name] = stream.definition
            for shard in stream.definition.shards:
                kept.shards[name, shard.number] = await read(site, name, shard.number)
                if shard.open:
                    await site.put(name, shard.number, b"new")
                    after = await read(site, name, shard.number)
                    (new,) = after.keys() - kept.shards[name, shard.number].keys()
                    kept.shards[name, shard.number][new] = (b"new", 0)
        kept.said += [*site.reports, *site.torn]

    with capture_logs() as log:
        run(whole())
    kept.said += [f"{event['what']}" for event in log if event["event"] == "buffer.damaged"]
    return kept


async def read(site: StreamSite, name: str, shard: int) -> Placed:
    log = site.streams.named[name].log(shard)
    found = await log.read(log.oldest(), 1 << 30, 1 << 40)
    columns = ((first, piece.column("record"), piece.column("arrival_ms")) for first, piece in found.pieces)
    return {
        first + row: (record.as_py(), arrival.as_py())
        for first, records, arrivals in columns
        for row, (record, arrival) in enumerate(zip(records, arrivals, strict=True))
    }


def wrong(tree: Tree, damaged: Damaged, whole: Kept) -> str:
    """What must not be, of how it ended; empty if all is well. `whole` is the end without damage."""
    kept = opened({**tree, damaged.path: damaged.content})
    if kept.definitions != whole.definitions:
        return f"definitions {kept.definitions.keys() ^ whole.definitions.keys()}"
    lost = may_be_lost(tree, damaged)
    for shard, placed in whole.shards.items():
        found = kept.shards[shard]
        records = {counter: one for counter, one in found.items() if one[0] != b"new"}
        missing = [counter for counter in placed.keys() - found.keys() if placed[counter][0] not in {*lost, b"new"}]
        strange = [counter for counter, one in records.items() if placed.get(counter) != one]
        behind = max(found) >= max(placed) if b"new" in (one for one, _ in found.values()) else True
        if missing or strange or list(records) != sorted(records) or not behind:
            return f"{shard}: missing {missing}, strange {strange}, behind all others {behind}; said {kept.said}"
    name = damaged.path.rpartition(".")[0] if damaged.path.endswith((".open", ".sealed")) else damaged.path
    if any(name in said and ("offset" in said or "cannot be understood" in said) for said in kept.said):
        return ""
    return "" if kept.same(whole) or _beyond_telling(tree, damaged) else f"not reported: {kept.said}"


def _beyond_telling(tree: Tree, damaged: Damaged) -> bool:
    """An open file that has lost whole frames at its end looks as if they had never been written."""
    content = tree[damaged.path] or b""
    ends = set(accumulate(map(len, units(damaged.path, content)), initial=0))
    return damaged.path.endswith(".open") and content.startswith(damaged.content) and len(damaged.content) in ends
