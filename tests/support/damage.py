"""A data folder with a file of every kind in it, everything that can befall their bytes, and the look at what follows.

Damage is harmless where everything ends as it would have without it. Where it does not, it must be said: in the log or
by `firehose buffer verify`, naming the file. Whatever it is, the service starts, delivers no byte that nobody sent, and
what the damage did not touch.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any

import pyarrow as pa
from crash_states import Crash, Tree
from faulty_disk import FaultyDisk, Folder
from lives import DATA, OUT, POISON, FarAndDisk, House, configured, delivered, noted, unstamped
from power import APP, PARTED, PLACES, POISON_IN_Z, STAMPED, WEB, fresh, keyed, lines
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.buffer import frame, inspect
from firehose.config import Config

CHANGED = {"destinations": [{"type": "folder", "path": f"{OUT}/app", "prefix": "second/"}, {"type": "remote"}]}
PARTITIONED = {"parted": PARTED, "stamped": STAMPED}
SAYS = ("buffer.damaged", "buffer.torn_end_cut")
PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Given:
    """The folder, and what its service had promised when it was killed."""

    tree: Tree
    far: dict[str, tuple[bytes, ...]]
    steps: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file's content that differs from what was written."""

    path: str
    how: str
    content: bytes
    touched: tuple[int, int]  # the range of the original whose frames may be lost

    @property
    def kind(self) -> tuple[str, str]:
        """The file's, and what befell it."""
        return self.path.rpartition("/")[2].rpartition(".")[2], re.sub(r"[\d/]\S* ?", "", self.how).rstrip()


@dataclass(slots=True)
class End:
    """How everything ended: objects with their records, sums by place, and what was said on the way."""

    objects: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    sums: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def same(self, other: End) -> bool:
        return (self.objects, self.sums) == (other.objects, other.sums)


@cache
def changed() -> Config:
    """Parsed once the plug-ins are there."""
    return configured(app=CHANGED, web=WEB, **PARTITIONED)


def given() -> Given:
    """Folded lanes, held segments of two versions, one delivered to one of its two destinations, outcomes, an open file
    with cursors, a probe, a file that was never renamed; of partitioned streams parted segments with and without
    changed records, open partitions, a held cut of several segments, one that is delivered.
    """
    disk = FarAndDisk()

    async def whole() -> None:
        house = House(disk, seed=1)
        await house.start(configured(app=APP, web=WEB, **PARTITIONED))
        await house.append("app", *lines("a", 2), cursor=1)
        await house.deliver("app")
        await house.append("parted", *keyed("h", "xyz"))
        await house.part("parted")
        await house.append("parted", *keyed("i", "zx"), POISON_IN_Z)
        await house.seal("parted")
        await house.append("stamped", *keyed("j", "xy"))
        await house.part("stamped")
        await house.kill()
        await house.start(configured(app=APP, web=WEB, **PARTITIONED))
        await house.service.ready()
        for number in range(3):
            await house.append("app", *lines(f"b{number}", 2), cursor=10 + number)
        await house.append("app", POISON + b" b\n")
        await house.seal("app")
        await house.append("web", *lines("c", 2), POISON + b" c\n")
        await house.append("web", *lines("d", 2))
        await house.seal("web")
        await passed(1)
        await house.append("stamped", *keyed("k", "y"))
        await house.append("parted", *keyed("l", "x"))
        await house.part("parted", "stamped")
        await house.reload(changed())
        await house.append("app", *lines("e", 2), POISON + b" e\n")
        await house.append("app", *lines("f", 2), cursor=20)
        await house.seal("app")
        await passed(1)
        for number in range(3):
            await house.append("app", *lines(f"g{number}", 2), cursor=30 + number)
        await house.append("parted", *keyed("m", "xz"))
        await house.kill()

    with capture_logs():
        run(whole())
    disk.put(f"{DATA}/catalog.new", b'{"format": 2')
    return Given(dict(files(disk)), dict(noted(disk.record, "stored")), disk.record)


def files(disk: FaultyDisk, folder: str = "") -> Iterator[tuple[str, bytes | None]]:
    """Every file with its content, every folder with None."""
    for name in disk.list(folder or "/"):
        path = f"{folder}/{name}"
        if isinstance(disk._find(path), Folder):
            yield path, None
            yield from files(disk, path)
        else:
            yield path, disk.read(path)


# What can befall a file.


def damages(tree: Tree, dice: Random, share: float) -> Iterator[Damaged]:
    """A share of the flips of each byte of each file under the data folder, and of all else that can be done to it: of
    each kind of damage to each kind of file at least one.
    """
    ours = {path: content for path, content in tree.items() if content and path.startswith(DATA)}
    by_kind = defaultdict[tuple[str, str], list[Damaged]](list)
    for path, content in ours.items():
        for damaged in [*_bytes(path, content, dice), *_units(path, content), *_others(path, ours)]:
            if damaged.content != content:
                by_kind[damaged.kind].append(damaged)
    for alike in by_kind.values():
        yield from dice.sample(alike, max(1, round(share * len(alike))))


def _bytes(path: str, content: bytes, dice: Random) -> Iterator[Damaged]:
    size = len(content)
    for at in range(size):
        yield _put(path, f"bit flipped at {at}", content, at, bytes([content[at] ^ 1 << dice.randrange(8)]))
        if at % 4 == 0:
            yield _put(path, f"byte inverted at {at}", content, at, bytes([content[at] ^ 0xFF]))
            yield _put(path, f"zeros at {at}", content, at, bytes(min(8, size - at)))
            yield Damaged(path, f"cut at {at}", content[:at], (at, size))
            end = min(size, at + 1 + dice.randrange(64))
            yield Damaged(path, f"{at} to {end} twice", content[:end] + content[at:], (at, end))
        if at % 512 == 0:
            yield _put(path, f"sector of zeros at {at}", content, at, bytes(min(512, size - at)))


def _put(path: str, how: str, content: bytes, at: int, new: bytes) -> Damaged:
    return Damaged(path, how, content[:at] + new + content[at + len(new) :], (at, at + len(new)))


def units(path: str, content: bytes) -> list[bytes]:
    """The lines of a file of text, the frames and the trailer of a segment, which together are all of it."""
    if not path.endswith((".open", ".sealed")):
        return content.splitlines(keepends=True)
    *_, lane, name = path.split("/")
    items = list(frame.scan(pa.py_buffer(content), frame.seed(lane), int(name.partition(".")[0])))
    ends = [item.offset + item.size for item in items]
    return [content[start:end] for start, end in zip([0, *ends], [*ends, len(content)], strict=True) if end > start]


def _units(path: str, content: bytes) -> Iterator[Damaged]:
    """Whole frames and lines left out, there twice, in another order."""
    parts = units(path, content)
    for number in range(len(parts)):
        start = sum(map(len, parts[:number]))
        before, this, behind = parts[:number], parts[number], parts[number + 1 :]
        touched = (start, start + len(this))
        yield Damaged(path, f"unit {number} left out", b"".join([*before, *behind]), touched)
        yield Damaged(path, f"unit {number} twice", b"".join([*before, this, this, *behind]), (0, 0))
        if behind:
            swapped = b"".join([*before, behind[0], this, *behind[1:]])
            yield Damaged(path, f"unit {number} and the next swapped", swapped, (start, touched[1] + len(behind[0])))


def _others(path: str, ours: Mapping[str, bytes]) -> Iterator[Damaged]:
    """The file, or a frame of it, replaced by that of another lane or segment."""
    content, suffix = ours[path], path.rpartition(".")[2]
    for other, theirs in ours.items():
        if other == path or not theirs or other.rpartition(".")[2] != suffix or "." not in other:
            continue
        yield Damaged(path, f"replaced by {other}", theirs, (0, len(content)))
        parts, foreign = units(path, content), units(other, theirs)
        for number in range(min(len(parts), len(foreign))):
            start = sum(map(len, parts[:number]))
            mixed = b"".join([*parts[:number], foreign[number], *parts[number + 1 :]])
            yield Damaged(path, f"unit {number} of {other} in its place", mixed, (start, start + len(parts[number])))


# The look at what follows.


def opened(given: Given, damaged: Damaged | None) -> End:
    """Starts on the folder, takes more records, releases what is held, delivers everything, and tells how it ended.
    Raises whatever keeps it from that.
    """
    tree = {**given.tree, damaged.path: damaged.content} if damaged else given.tree
    disk, end = FarAndDisk(Crash(0, tree).root(), given.far), End()
    with capture_logs() as log:
        if damaged:
            end.said += [
                f"{one.path}, offset and what: {one.damage}" for one in inspect.verify(disk, DATA) if one.damage
            ]
        run(_opened(House(disk, seed=2), end))
    end.said += [f"{event}" for event in log if event["event"] in SAYS]
    return end


async def _opened(house: House, end: End) -> None:
    following = changed()
    await house.start(following)
    for stream in following.streams:
        await house.append(stream, *fresh(stream, "new"))
    await house.release()
    for stream in sorted(house.service._streams._appenders):
        await house.seal(stream)
    for _ in range(PATIENCE_SECONDS):
        await passed(1)
        standings = await house.service.standings()
        if not any(place.pending for stream in standings for place in stream.places):
            break
    end.objects = {name: tuple(map(unstamped, all_)) for name, all_ in house.objects().items()}
    for one in standings:
        for place in one.places:
            sums = (one.accepted, place.pending, place.imbalance, place.totals.records)
            end.sums[one.name, place.destination] = sums
    await house.service.stop()


def wrong(given: Given, damaged: Damaged, whole: End) -> str:
    """What must not be, of how it ended; empty if all is well. `whole` is the end without damage."""
    try:
        end = opened(given, damaged)
    except Exception as error:
        return f"it does not start or deliver: {type(error).__name__}: {error}"
    if end.same(whole):
        return ""
    name = damaged.path.rpartition(".")[0] or damaged.path  # a damaged file is kept under another ending
    reported = any(name in said and "offset" in said for said in end.said)
    if not reported and not _beyond_telling(given.tree, damaged, end, whole):
        return f"not reported: {end.said} {_difference(end, whole)}"
    return _misdelivered(given, damaged, end)


def _beyond_telling(tree: Tree, damaged: Damaged, end: End, whole: End) -> bool:
    """A file that grows and has lost whole frames or lines at its end looks as if they had never been written. Of the
    ledger's the sums tell, but for those about a partitioned stream's cuts, which are then made anew.
    """
    content = tree[damaged.path] or b""
    ends = set(accumulate(map(len, units(damaged.path, content)), initial=0))
    if damaged.path.endswith("/ledger"):
        ends |= {end - 1 for end in ends}  # a line is whole without the sign of its end
    cut = content.startswith(damaged.content) and len(damaged.content) in ends
    sums = any(imbalance for _, _, imbalance, _ in end.sums.values())
    streams = {name.strip("/").split("/")[1] for name in _differing(end, whole)}
    told = sums or (bool(streams) and streams <= PARTITIONED.keys())
    return cut and (damaged.path.endswith(".open") or (damaged.path.endswith("/ledger") and told))


def _differing(end: End, whole: End) -> list[str]:
    """Names of the objects that only one has, or that have other records."""
    return sorted(name for name in {*end.objects, *whole.objects} if end.objects.get(name) != whole.objects.get(name))


def _difference(end: End, whole: End) -> str:
    sums = [(key, those, whole.sums.get(key)) for key, those in end.sums.items() if those != whole.sums.get(key)]
    return f"objects {_differing(end, whole)}, sums {sums}"


def _misdelivered(given: Given, damaged: Damaged, end: End) -> str:
    there, lost = delivered(end.objects), may_be_lost(given.tree, damaged)
    may_double = PARTITIONED if _lines_lost(given.tree, damaged) > 1 else ()  # what a cut has stands in two lines
    for stream, places in PLACES.items():
        sent = {record for name, records in noted(given.steps, "sent") if name == stream for record in records}
        for place in places:
            have: Counter[bytes] = there[stream, place]
            strange = [one for one in have if one not in sent and b"new-" not in one]
            missing = [one for one in sent if one not in have and one not in lost]
            doubled = [one for one, many in have.items() if many > 1 and stream not in may_double]
            if strange or missing or doubled:
                return f"{stream} at {place}: strange {strange}, missing {missing}, doubled {doubled}; said {end.said}"
    if any(pending for _, pending, _, _ in end.sums.values()):
        return f"it is not delivered: {end.sums}"
    return ""


def _lines_lost(tree: Tree, damaged: Damaged) -> int:
    """Of the ledger: how many it does not have any more."""
    if not damaged.path.endswith("/ledger"):
        return 0
    return len(set((tree[damaged.path] or b"").splitlines()) - set(damaged.content.splitlines()))


def may_be_lost(tree: Tree, damaged: Damaged) -> set[bytes]:
    """Records of the frames that the damage touches."""
    content, lost = tree[damaged.path] or b"", set[bytes]()
    if not damaged.path.endswith((".open", ".sealed")):
        return lost
    buffer = pa.py_buffer(content)
    begin, end = damaged.touched
    *_, lane, name = damaged.path.split("/")
    for item in frame.scan(buffer, frame.seed(lane), int(name.partition(".")[0])):
        if isinstance(item, frame.Frame) and item.offset < end and item.offset + item.size > begin:
            lost.update(frame.read_records(buffer, item).column("record").to_pylist())
    return lost
