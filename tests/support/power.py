"""A life of the service with all that writes to its disk in it, and the look at what each power cut leaves of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from crash_states import Crash, crashes
from lives import OUT, POISON, FarAndDisk, House, configured, delivered, noted
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.config import Config
from firehose.contracts import Unavailable

POISON_IN_Z = b'{"p":"z","id":"%s"}\n' % POISON
Life = Callable[[House], Awaitable[None]]
APP = {"destinations": [{"type": "folder", "path": f"{OUT}/app"}, {"type": "remote"}]}
WEB = {"destination": {"type": "remote"}, "transforms": [{"type": "stamp"}]}
LATE = {"destination": {"type": "folder", "path": f"{OUT}/late"}}
SECOND_APP = {"destinations": [{"type": "folder", "path": f"{OUT}/app", "prefix": "second/"}, {"type": "remote"}]}
BY_KEY = {"type": "folder", "path": f"{OUT}/parted", "prefix": "p=!{partitionKeyFromQuery:p}/"}
PARTED = {"destinations": [BY_KEY, {"type": "remote"}], "dynamic_partitioning": {"queries": {"p": ".p"}}}
STAMPED = {
    **PARTED,
    "destination": BY_KEY | {"path": f"{OUT}/stamped"},
    "destinations": None,
    "transforms": [{"type": "stamp"}],
}
PLACES = {
    "app": (OUT.strip("/"), "remote"),
    "web": ("remote",),
    "late": (OUT.strip("/"),),
    "parted": (OUT.strip("/"), "remote"),
    "stamped": (OUT.strip("/"),),
}


@cache
def first() -> Config:
    """Parsed once the plug-ins are there."""
    return configured(app=APP, web=WEB)


@cache
def second() -> Config:
    return configured(app=SECOND_APP, late=LATE)


@cache
def by_key() -> Config:
    return configured(parted=PARTED, stamped=STAMPED)


def lines(word: str, many: int, size: int = 20) -> list[bytes]:
    """Records that no other call with this word makes."""
    return [f"{word}-{number} ".encode().ljust(size, b".") + b"\n" for number in range(many)]


def keyed(word: str, keys: str) -> list[bytes]:
    """The same, one for each letter, which is the partition it belongs to."""
    return [b'{"p":"%s","id":"%s-%d"}\n' % (key.encode(), word.encode(), at) for at, key in enumerate(keys)]


def fresh(stream: str, word: str) -> list[bytes]:
    """Two records that this stream can take."""
    return keyed(f"{word}-{stream}", "xy") if stream in ("parted", "stamped") else lines(f"{word}-{stream}", 2)


async def busy(house: House) -> None:
    """Three starts, two kills, a reload, held segments, kept outcomes, cursors, groups of several appends."""
    await house.start(first())
    await house.append("app", *lines("a", 3), cursor=1)
    await asyncio.gather(*(house.append("app", *lines(f"b{n}", 2, 300)) for n in range(3)))
    await house.append("web", *lines("c", 2), cursor=1)
    await house.seal("app")
    await house.append("app", *lines("d", 4, 1500), cursor=2)  # more than a segment holds
    await house.append("web", *lines("e", 1), POISON + b" 1\n")
    await house.seal("web")
    await house.service.ready()
    await house.append("app", *lines("f", 1, 700), cursor=3)
    await house.kill()
    await house.start(first())
    await house.append("app", *lines("g", 2), cursor=4)
    await house.append("web", *lines("h", 2), cursor=2)
    await house.reload(second())
    await house.append("late", *lines("i", 3))
    await house.append("app", *lines("j", 2), cursor=5)
    await house.deliver("app", "late")
    await house.append("late", *lines("k", 1), cursor=1)
    await house.kill()
    await house.start(second())
    await house.append("app", *lines("l", 1), cursor=6)
    await house.release()
    await house.deliver("app", "web", "late")
    await house.append("app", *lines("m", 1), cursor=7)
    await house.service.stop()


async def parting(house: House) -> None:
    """Two partitioned streams, of records as they came and of changed ones: cuts of several segments, held, delivered
    to one of two destinations, full before their time; two kills.
    """
    await house.start(by_key())
    await house.append("parted", *keyed("a", "xyx"), cursor=1)
    await house.append("stamped", *keyed("b", "xy"))
    await house.part("parted")
    await house.append("parted", *keyed("c", "yz"), cursor=2)
    await house.part("parted", "stamped")
    await house.append("stamped", *keyed("d", "yy"))
    await house.kill()
    await house.start(by_key())
    await house.append("parted", *keyed("e", "x"), POISON_IN_Z, cursor=3)
    await house.deliver("stamped")
    await house.seal("parted")
    await passed(1)
    await house.append("parted", *keyed("f", "zx"), cursor=4)
    await house.append("stamped", *keyed("g", "x" * 200))
    await house.part("parted")
    await house.kill()
    await house.start(by_key())
    await house.release()
    await house.deliver("parted", "stamped")
    await house.service.stop()


async def wide(house: House) -> None:
    """Appends that overlap, for streams that write several lanes side by side; a kill amid them."""

    async def one(number: int) -> None:
        await passed(number * 0.0003)  # a third of what the disk takes
        await house.append("app", *lines(f"n{number}", 1, 900), cursor=None if number % 5 else number)

    await house.start(first())
    await asyncio.gather(*(one(number) for number in range(12)))
    await house.deliver("app")
    overtaken = [asyncio.ensure_future(one(number)) for number in range(12, 20)]
    await passed(0.0015)
    for task in overtaken:
        task.cancel()
    await house.kill()
    await house.start(first())
    await asyncio.gather(*(one(number) for number in range(20, 28)))
    await house.deliver("app")
    await house.service.stop()


async def small(house: House) -> None:
    """One stream, two starts, a kill: little enough for every state of it."""
    await house.start(first())
    await house.append("app", *lines("a", 2), cursor=1)
    await house.append("app", *lines("b", 1, 600))
    await house.deliver("app")
    await house.append("app", *lines("c", 1), cursor=2)
    await house.kill()
    await house.start(first())
    await house.append("app", *lines("d", 1), cursor=3)
    await house.deliver("app")
    await house.service.stop()


def lived(life: Life, disk: FarAndDisk | None = None, seed: int = 1) -> FarAndDisk:
    """The disk after a life; a crash of the disk's own making ends it early."""
    disk = disk or FarAndDisk()

    async def whole() -> None:
        house = House(disk, seed)
        try:
            await life(house)
        except (OSError, Unavailable):
            await house.kill()

    with capture_logs():
        run(whole())
    return disk


@dataclass(slots=True)
class Found:
    """What is wrong after a power cut: nothing, if all is well."""

    missing: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # objects whose name came to hold other records
    unopenable: list[str] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)  # sums, cursors, reports of damage

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


def look(crash: Crash, steps: Sequence[Any], seed: int = 2) -> tuple[Found, FarAndDisk]:
    """Opens the state with the real code, takes more records, delivers everything, stops, starts again, and counts.
    `steps` is the record up to the crash.
    """
    disk, found = FarAndDisk(crash.root(), dict(noted(steps, "stored"))), Found()
    with capture_logs():
        run(_look(House(disk, seed), steps, found, f"new{seed}"))
    return found, disk


async def _look(house: House, steps: Sequence[Any], found: Found, word: str) -> None:
    before, following = house.objects(), [first(), *noted(steps, "config")][-1]
    sent, acknowledged = list(noted(steps, "sent")), list(noted(steps, "acknowledged"))
    try:
        await house.start(following)
        _check_cursors(house, acknowledged, found)
        for stream in following.streams:
            new = fresh(stream, word)
            await house.append(stream, *new, cursor=9000 + len(acknowledged))
            sent.append((stream, new))
            acknowledged.append((stream, new, None))
        await house.release()
        for stream in sorted(house.service._streams._appenders):
            await house.deliver(stream)
        await _check_sums(house, found)
        _check_records(house, sent, acknowledged, found)
        objects = house.objects()
        found.changed += [name for name in before if objects.get(name) != before[name]] + house.disk.changed
        await house.kill()
        await house.start(following)
        for stream in sorted(house.service._streams._appenders):
            await house.deliver(stream)
        await _check_sums(house, found)
        found.changed += sorted(objects.keys() ^ house.objects().keys())
        await house.service.stop()
    except Exception as error:
        found.unopenable.append(f"{type(error).__name__}: {error}")


def _check_cursors(house: House, acknowledged: Sequence[Any], found: Found) -> None:
    for stream, _, origin in acknowledged:
        known = house.service._streams._appenders[stream].origins() if origin else {}
        if origin and (origin.partition not in known or known[origin.partition].cursor < origin.cursor):
            found.unaccounted.append(f"the cursor {origin} of {stream} is forgotten: {known}")


async def _check_sums(house: House, found: Found) -> None:
    if house.service._streams.damaged_files:
        found.unaccounted.append("damage is reported where there is none")
    for stream in await house.service.standings():
        for place in stream.places:
            if place.imbalance or place.pending or place.totals.damaged:
                found.unaccounted.append(f"{stream.name} at {place.destination}: {place}")


def _check_records(house: House, sent: Sequence[Any], acknowledged: Sequence[Any], found: Found) -> None:
    there = delivered(house.objects())
    for stream, places in PLACES.items():
        offered = {record for name, records in sent if name == stream for record in records}
        promised = {record for name, records, _ in acknowledged if name == stream for record in records}
        for place in places:
            have: Counter[bytes] = there[stream, place]
            found.missing += [f"{stream} at {place}: {record!r}" for record in sorted(promised - have.keys())]
            found.invented += [f"{stream} at {place}: {record!r}" for record in sorted(have.keys() - offered)]
            found.doubled += [f"{stream} at {place}: {record!r}" for record, many in have.items() if many > 1]


Wrong = tuple[int, Found]  # the step before which the power went, and what was wrong then


def survey(disk: FarAndDisk, seed: int, limit: int, share: float = 1.0, again: float = 0.0) -> Iterator[Wrong]:
    """Looks at the states that the life on this disk may leave, or at a share of them, and at a share of those that a
    power cut may leave while the look itself goes on.
    """
    dice = Random(seed)
    for crash in crashes(disk, limit, dice, share):
        steps = disk.record[: crash.at]
        found, then = look(crash, steps)
        yield crash.at, found
        for second in crashes(then, limit, dice, again) if again else ():
            found, _ = look(second, steps + then.record[then.begins : second.at], seed=3)
            yield crash.at, found
