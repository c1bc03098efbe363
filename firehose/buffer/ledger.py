"""The delivery half's own log: what was delivered where, what is held, totals, cursors.

One file, `<data_dir>/ledger`, of text lines, each `<CRC-32 of the rest, 8 hex digits> <number of the line> <JSON>\\n`
(in format 1 without the number). The first, number 0, says `{"ledger": 2}`, or 4 where segments are parted: a release
that knows nothing of cuts must not take their segments for undelivered, nor one that names cuts otherwise (format 3)
make them anew under its own names. The others, by their key `t` (`s` is [stream, lane, first], `d` a destination's
name):

    delivered  s, d, n: totals, o: origins of the segment, see `frame`
    parted     s, d, n: totals so far        its rows go on by partition: it is delivered when all their cuts are
    cut        s, d, of: {lane: [[first, records accounted for], ...]}, n: records, b: bytes, at: arrival of the oldest
               in ms, v: version, p: partition
                                             groups of these segments go together for all time; `s` is the cut's own,
                                             and stands for a segment in all other entries; said twice, and once more
                                             when delivered, which is said twice of a cut
    held       s, d, why                     set aside until a person releases it
    released   s, d
    memo       s, d, note                    what a destination asked us to remember about it; with `gone`: no longer
    trying     s, d                          an attempt begins  } marks; not synced: only the
    resting    s, d                          it was survived    } death of a process makes them count
    deaths     s, d, n                       deaths in a row of the delivery process while it was being tried
    totals     stream, d, n                  sums of segments that are gone (written by a fold)
    origins    stream, o                     likewise

A line that is torn, damaged or there twice is passed over and reported, and so are lines that are missing. The file
is folded into a new one (written, synced, renamed) when it has grown, and after a failed write or sync, so that nothing
is ever appended behind an unknown end.
"""

from __future__ import annotations

import errno
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
from isal.isal_zlib import crc32

from firehose.buffer.frame import Origins, add_newest
from firehose.buffer.groups import Cut, is_cut
from firehose.contracts import Disk, Writer
from firehose.model import NewerFormat, SegmentKey, Totals

FORMAT = 4
WITHOUT_CUTS = 2
FOLD_BYTES = 4 * 1024 * 1024
Place = tuple[SegmentKey, str]  # a segment at a destination
StreamPlace = tuple[str, str]  # a stream at a destination
AT: Mapping[str, Any] = {"s": tuple[str, str, int], "d": str}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "delivered": {**AT, "n": dict[str, int]},
    "parted": {**AT, "n": dict[str, int]},
    "cut": {**AT, "of": dict[str, list[tuple[int, int]]], "n": int, "b": int, "at": int, "v": int, "p": str},
    "held": {**AT, "why": str},
    "released": AT,
    "memo": {**AT, "note": str},
    "trying": AT,
    "resting": AT,
    "deaths": {**AT, "n": int},
    "totals": {"stream": str, "d": str, "n": dict[str, int]},
    "origins": {"stream": str, "o": Origins},
}


@dataclass(slots=True)
class Book:
    """What the ledger says, all entries taken together."""

    delivered: defaultdict[SegmentKey, dict[str, Totals]] = field(default_factory=lambda: defaultdict(dict))
    parted: defaultdict[SegmentKey, dict[str, Totals]] = field(default_factory=lambda: defaultdict(dict))
    cuts: dict[Place, Cut] = field(default_factory=dict)  # until no segment of theirs is owed any more
    placed: defaultdict[Place, dict[str, SegmentKey]] = field(default_factory=lambda: defaultdict(dict))  # hash to cut
    held: dict[Place, str] = field(default_factory=dict)
    memos: defaultdict[Place, list[str]] = field(default_factory=lambda: defaultdict(list))
    trying: set[Place] = field(default_factory=set)
    deaths: dict[Place, int] = field(default_factory=dict)
    totals: defaultdict[StreamPlace, Totals] = field(default_factory=lambda: defaultdict(Totals))
    origins: defaultdict[str, Origins] = field(default_factory=lambda: defaultdict(dict))

    def ended(self, key: SegmentKey, destination: str) -> int:
        """How many records of a parted segment have found their end: at once, and by the cuts of its groups."""
        so_far = self.parted.get(key, {}).get(destination)
        if so_far is None:
            return 0
        cuts = self.placed.get((key, destination), {}).values()
        over = [cut for cut in tuple(cuts) if destination in self.delivered.get(cut, {})]
        return so_far.records + sum(self.cuts[cut, destination].of[key] for cut in over)

    def apply(self, entry: dict[str, Any]) -> None:
        """Adds one entry. Delivering what is delivered changes nothing."""
        kind = entry["t"]
        if kind == "totals":
            self.totals[entry["stream"], entry["d"]] += Totals.from_json(entry["n"])
        elif kind == "origins":
            self._add_origins(entry["stream"], entry["o"])
        else:
            stream, lane, first = entry["s"]
            self._apply_place(kind, ((stream, lane, int(first)), entry["d"]), entry)

    def _apply_place(self, kind: str, place: Place, entry: dict[str, Any]) -> None:
        key, destination = place
        if kind == "delivered" and destination not in self.delivered[key]:
            totals = Totals.from_json(entry["n"])
            self.delivered[key][destination] = totals
            self.totals[key[0], destination] += totals
            self._add_origins(key[0], entry.get("o", {}))
            self._end(place)
        elif kind == "parted" and destination not in self.parted[key]:
            totals = Totals.from_json(entry["n"])
            self.parted[key][destination] = totals
            self.totals[key[0], destination] += totals
            self._end(place)
        elif kind == "cut" and place not in self.cuts:
            cut = self.cuts[place] = Cut.read(key, entry)
            for member in cut.of:
                self.placed[member, destination][cut.hash] = key
        elif kind == "held":
            self.held[place] = entry["why"]
            self.trying.discard(place)
        elif kind == "released":
            self.held.pop(place, None)
            self.deaths.pop(place, None)
        elif kind == "memo":
            self._note(place, entry["note"], bool(entry.get("gone")))
        elif kind == "trying":
            self.trying.add(place)
        elif kind == "resting":
            self.trying.discard(place)
            self.deaths.pop(place, None)
        elif kind == "deaths":
            self.deaths[place] = entry["n"]

    def _add_origins(self, stream: str, origins: dict[str, Any]) -> None:
        if origins:
            add_newest(self.origins[stream], origins)

    def _note(self, place: Place, note: str, gone: bool) -> None:
        if not gone:
            self.memos[place].append(note)
        elif note in (notes := self.memos.get(place, [])):
            notes.remove(note)
            if not notes:
                del self.memos[place]

    def _end(self, place: Place) -> None:
        self.held.pop(place, None)
        self.memos.pop(place, None)
        self.deaths.pop(place, None)
        self.trying.discard(place)

    def forget(self, keys: Iterable[SegmentKey]) -> None:
        """The segments' files are gone for good: only their part of the totals remains, and that of cuts made of such
        segments alone, or of such that their destination has.
        """
        gone = set(keys)
        for key in gone:
            for destination in {**self.delivered.pop(key, {}), **self.parted.pop(key, {})}:
                self._end((key, destination))
        for place in [place for place in self.cuts if self._is_over(place, gone)]:
            key, destination = place
            cut = self.cuts.pop(place)
            for member in cut.of:
                placed = self.placed[member, destination]
                if placed.get(cut.hash) == key:  # and not one that was made in its place
                    del placed[cut.hash]
                if not placed:
                    del self.placed[member, destination]
            self.delivered[key].pop(destination, None)
            if not self.delivered[key]:
                del self.delivered[key]
            self._end(place)

    def _is_over(self, place: Place, gone: set[SegmentKey]) -> bool:
        """That a segment is not known as parted says nothing, nor that the cut is not known as delivered: what said so
        may be damaged.
        """
        destination = place[1]
        return all(member in gone or destination in self.delivered.get(member, {}) for member in self.cuts[place].of)

    def files(self) -> set[SegmentKey]:
        """Segments whose files may be gone by now."""
        members = chain.from_iterable(cut.of for cut in self.cuts.values())
        return {key for key in (*self.delivered, *self.parted, *members) if not is_cut(key)}

    @property
    def format(self) -> int:
        """The oldest that can say all this."""
        return FORMAT if self.parted or self.cuts else WITHOUT_CUTS

    def folded(self) -> Iterator[dict[str, Any]]:
        """Entries that make an equal book. Where rows would be gathered anew, and arrive twice, were a single line
        damaged, it comes twice; not side by side, for one damaged byte between two lines makes them one.
        """
        rest = defaultdict(Totals, self.totals)
        for key, destinations in chain(self.delivered.items(), self.parted.items()):
            for destination, totals in destinations.items():
                rest[key[0], destination] = minus(rest[key[0], destination], totals)
        for key, destinations in self.parted.items():
            for destination, totals in destinations.items():
                yield {"t": "parted", "s": key, "d": destination, "n": totals.to_json()}
        yield from self._about_cuts()
        for (stream, destination), totals in rest.items():
            yield {"t": "totals", "stream": stream, "d": destination, "n": totals.to_json()}
        yield from self._about_cuts()
        for key, destination, totals in self._delivered():
            if not self._ends_cuts(key, destination):
                yield {"t": "delivered", "s": key, "d": destination, "n": totals.to_json()}
        for stream, origins in self.origins.items():
            yield {"t": "origins", "stream": stream, "o": origins}
        for (key, destination), why in self.held.items():
            yield {"t": "held", "s": key, "d": destination, "why": why}
        for (key, destination), notes in self.memos.items():
            yield from ({"t": "memo", "s": key, "d": destination, "note": note} for note in notes)
        for key, destination in self.trying:
            yield {"t": "trying", "s": key, "d": destination}
        for (key, destination), count in self.deaths.items():
            yield {"t": "deaths", "s": key, "d": destination, "n": count}

    def _about_cuts(self) -> Iterator[dict[str, Any]]:
        for (key, destination), cut in self.cuts.items():
            yield {**cut.entry(), "s": key, "d": destination}
        for key, destination, totals in self._delivered():
            if self._ends_cuts(key, destination):
                yield {"t": "delivered", "s": key, "d": destination, "n": totals.to_json()}

    def _delivered(self) -> Iterator[tuple[SegmentKey, str, Totals]]:
        for key, destinations in self.delivered.items():
            yield from ((key, destination, totals) for destination, totals in destinations.items())

    def _ends_cuts(self, key: SegmentKey, destination: str) -> bool:
        """Whether a delivered segment is a cut, or one whose groups went in cuts."""
        return is_cut(key) or destination in self.parted.get(key, {})


def minus(whole: Totals, part: Totals) -> Totals:
    less = part.to_json()
    return Totals.from_json({name: value - less.get(name, 0) for name, value in whole.to_json().items()})


class Ledger:
    """The log and the book. Blocking and thread-safe; commits that meet at the disk share one sync."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        report: Callable[[str], None],
        gone: Callable[[Iterable[SegmentKey]], set[SegmentKey]],
    ) -> None:
        """Reads what is there. `gone` answers which segments' files are gone, durably: a fold forgets those."""
        self._disk = disk
        self._path = path
        self._gone = gone
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._writer: Writer | None = None
        self._failed: Writer | None = None  # the last one of which a sync failed: others may wait to sync it, too
        self._size = self._folded = self._written = self._synced = self._lines = self._format = 0
        self.book, bad = read_book(disk, path)
        for problem in bad:
            report(problem)
        if bad:
            disk.replace(f"{path}.damaged", disk.read(path))

    def append(self, *entries: dict[str, Any], sync: bool = True) -> None:
        """Adds entries; durable when it returns, if `sync`. Raises OSError; a repeat then starts a new file."""
        with self._write_lock:
            for entry in entries:
                self.book.apply(entry)
            grown = self._size > FOLD_BYTES + 2 * self._folded
            if self._writer is None or grown or self._format < self.book.format:
                self._fold()
            else:
                self._write(entries)
            self._written += 1
            ticket, writer = self._written, self._writer
        if sync and writer is not None:
            self._sync(ticket, writer)

    def fold(self) -> None:
        """Starts a new file that says the same in fewer lines."""
        with self._write_lock:
            self._fold()

    def close(self) -> None:
        with self._write_lock:
            self._close()

    def _write(self, entries: Iterable[dict[str, Any]]) -> None:
        assert self._writer is not None
        lines = [_line(number, entry) for number, entry in enumerate(entries, self._lines)]
        self._lines += len(lines)
        try:
            self._size += self._writer.write(b"".join(lines))
        except OSError:
            self._close()
            raise

    def _sync(self, ticket: int, writer: Writer) -> None:
        with self._sync_lock:
            if self._synced >= ticket:
                return
            upto = self._written
            try:
                if writer is self._failed:  # a second sync of it may succeed, and keep nothing
                    raise OSError(errno.EIO, "an earlier sync has failed", self._path)
                writer.sync()
                self._synced = upto
                return
            except OSError as error:
                self._failed, failure = writer, error
        with self._write_lock:  # never while the other lock is held: `_close` takes them in this order
            if self._synced >= ticket:
                return  # a fold closed this writer, and took the entries along
            if self._writer is writer:
                self._close()
        raise failure

    def _fold(self) -> None:
        self._close()
        self.book.forget(self._gone(self.book.files()))
        self._format = self.book.format
        said = chain(({"ledger": self._format},), self.book.folded())
        lines = [_line(number, entry) for number, entry in enumerate(said)]
        content = b"".join(lines)
        self._disk.replace(self._path, content)
        self._writer = self._disk.reopen(self._path, len(content))
        self._size = self._folded = len(content)
        self._lines = len(lines)
        self._synced = self._written + 1

    def _close(self) -> None:
        """Under the sync lock, so that nobody syncs a descriptor that means another file by then."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._sync_lock:
                writer.close()


def _line(number: int, entry: dict[str, Any]) -> bytes:
    said = b"%d %s" % (number, json.dumps(entry, separators=(",", ":")).encode())
    return b"%08x %s\n" % (crc32(said), said)


@dataclass(slots=True)
class _Numbers:
    """The numbers of the lines read so far, and how many lines were unreadable since the last good one."""

    seen: set[int] = field(default_factory=set)
    highest: int = -1
    unreadable: int = 0

    def problem(self, number: int) -> str:
        """What is wrong with a good line of this number coming next."""
        missing, self.unreadable = number - self.highest - 1 - self.unreadable, 0
        if number in self.seen:
            return "is there twice and was passed over"
        behind = number < self.highest
        self.seen.add(number)
        self.highest = max(self.highest, number)
        if behind:
            return "is out of its order"
        return f"comes after {missing} lines that are missing" if missing > 0 else ""


def read_book(disk: Disk, path: str) -> tuple[Book, list[str]]:
    """Reads a ledger without writing; and what is wrong with it. Raises `NewerFormat`."""
    book, bad, offset, numbers = Book(), list[str](), 0, _Numbers()
    if not disk.exists(path):
        return book, bad
    for line in disk.read(path).split(b"\n"):
        number, entry = _entry(line)
        problem = numbers.problem(number) if number is not None else ""
        if entry is None and line:
            problem = "is torn or damaged and was passed over"
            numbers.unreadable += 1
        elif entry is not None and "twice" not in problem:
            _apply(book, entry, path)
        bad += [f"{path}: the line at offset {offset} {problem}"] if problem else []
        offset += len(line) + 1
    return book, bad


def _apply(book: Book, entry: dict[str, Any], path: str) -> None:
    if "ledger" not in entry:
        book.apply(entry)
    elif entry["ledger"] > FORMAT:
        raise NewerFormat(path, entry["ledger"], FORMAT)


def _entry(line: bytes) -> tuple[int | None, dict[str, Any] | None]:
    """A line's number (format 1 has none) and entry; no entry where it is torn or damaged."""
    try:
        if line[8:9] != b" " or int(line[:8], 16) != crc32(line[9:]):
            return None, None
        number, said = (b"", line[9:]) if line[9:10] == b"{" else line[9:].split(b" ", 1)
        entry: dict[str, Any] = json.loads(said)
        shape = {"ledger": int} if "ledger" in entry else SHAPES[entry["t"]]
        for key, kind in shape.items():
            msgspec.convert(entry[key], kind)
        msgspec.convert(entry.get("o", {}), Origins)
        return int(number) if number else None, entry
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, None
