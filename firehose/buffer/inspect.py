"""What lies in a data folder, for people: every file of the buffer, its records, what is damaged, what is held.

The files of data streams are told of in the same way: there, `id/shard` is what a delivery stream's name is here.

Reads what `layout`, `frame`, `ledger`, `outcome` and `catalogue` write, beside a running service and without its
help. It must never change anything, `release` aside, which takes the delivery half's place first. A file that goes
away while it is looked at has been delivered, or sealed under another name: it is passed over, not reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from firehose import checked_json
from firehose.buffer import frame, layout, outcome, recovery
from firehose.buffer.cut_rows import CutRows, Mapped
from firehose.buffer.groups import is_cut
from firehose.buffer.ledger import Book, Ledger, read_book
from firehose.catalogue import Catalogue, Damaged
from firehose.contracts import Disk
from firehose.model import SegmentKey
from firehose.schemas import versions

STATES = {layout.OPEN: "open", layout.SEALED: "sealed", layout.DAMAGED: "damaged"}


class NotThere(Exception):
    """No file of the buffer has this name. The message says what to do."""


class InUse(Exception):
    """A delivery half works on the data folder, and only it may write the ledger."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of records. `state` is open, sealed, parted (its rows go on by partition), held or damaged; `owed` names
    the destinations still to get it. Or a cut of such rows, which has no file of its own: its `state` is cut or held.
    """

    stream: str
    lane: str
    first: int
    state: str
    count: int
    size_bytes: int  # of the records
    file_bytes: int
    opened_ms: int | None  # arrival of the oldest record
    version: int | None  # of the stream's definition; an open file has none yet
    owed: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()  # destination and reason

    @property
    def name(self) -> str:
        return f"{self.stream}/{self.lane}/{self.first:020d}"


@dataclass(frozen=True, slots=True)
class Checked:
    """One file, read from end to end. `damage` says what is wrong, each with its offset in the file."""

    path: str
    frames: int = 0
    records: int = 0
    damage: tuple[tuple[int, str], ...] = ()


def key_of(name: str) -> SegmentKey:
    """The key of a segment written `stream/lane/first`, or `id/shard/lane/first`. Raises ValueError."""
    *stream, lane, first = name.split("/")
    if len(stream) not in (1, 2) or {*stream, lane} & {"", ".", ".."} or not (first.isascii() and first.isdigit()):
        raise ValueError(name)
    return "/".join(stream), lane, int(first)


def files(disk: Disk, data_dir: str) -> Iterator[File]:
    """Every file of records, by stream, lane and number."""
    book, _ = read_book(disk, _ledger(data_dir))
    catalogue = Catalogue(disk, data_dir)
    for key, suffix in _each(disk, data_dir):
        try:
            yield _file(disk, data_dir, key, suffix, book, catalogue)
        except FileNotFoundError:
            continue  # sealed, or delivered and removed, since the folder was read
    yield from _cuts(book)


def _cuts(book: Book) -> Iterator[File]:
    """Those that are on their way. What is gathered and not cut yet is in its segments alone."""
    for (key, destination), cut in sorted(book.cuts.items(), key=lambda one: one[0]):
        if destination not in book.delivered.get(key, {}):
            why = book.held.get((key, destination))
            one, held = cut.segment, ((destination, why),) if why is not None else ()
            state = "held" if held else "cut"
            yield File(*key, state, one.count, one.size_bytes, 0, one.opened_ms, one.version, (destination,), held)


def records(disk: Disk, data_dir: str, key: SegmentKey) -> Iterator[pa.BinaryArray]:
    """The records of a segment, open or damaged ones too, frame by frame: whatever a valid frame holds. Of a cut, its
    rows as they are delivered: of a record that was split, those of this partition.

    Raises `NotThere`.
    """
    if is_cut(key):
        yield from _rows(disk, data_dir, key)
        return
    for suffix in STATES:  # in this order: a file that is sealed meanwhile is found under its next name
        try:
            view = disk.view(_path(data_dir, key, suffix))
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            for item in frame.scan(view.buffer, frame.seed(key[1]), key[2]):
                if isinstance(item, frame.Frame) and item.count:
                    yield frame.read_records(view.buffer, item).column("record")
        finally:
            view.close()
        return
    raise _not_there(key)


def _rows(disk: Disk, data_dir: str, key: SegmentKey) -> Iterator[pa.BinaryArray]:
    book, _ = read_book(disk, _ledger(data_dir))
    for (one, _), cut in book.cuts.items():
        if one == key and all(outcome.read(disk, layout.file_of(data_dir, member, layout.OUT)) for member in cut.of):
            rows = CutRows(disk, data_dir, cut, Mapped(disk), sums={}, doubted=lambda _: None)
            yield from (one.rows.column("record") for one in rows)
            return
    raise _not_there(key)


def _not_there(key: SegmentKey) -> NotThere:
    name = f"{key[0]}/{key[1]}/{key[2]:020d}"
    return NotThere(f"there is no segment {name}; firehose buffer ls prints those there are")


def verify(disk: Disk, data_dir: str) -> Iterator[Checked]:
    """Reads everything: frames, trailers, outcomes, ledger, catalogue, schemas. Raises `NewerFormat`."""
    yield _checked_catalogue(disk, data_dir)
    yield _checked_ledger(disk, data_dir)
    yield from _checked_definitions(disk, data_dir)
    for key, suffix in _each(disk, data_dir):
        try:
            yield _checked_segment(disk, data_dir, key, suffix)
        except FileNotFoundError:
            continue
    for key in _keys(disk, data_dir, layout.OUT):
        path = _path(data_dir, key, layout.OUT)
        if outcome.read(disk, path) is None and disk.exists(path):
            yield Checked(path, damage=((0, "the outcome is damaged; it will be made anew from the segment"),))
    for path, problem in versions.files(disk, data_dir):
        yield Checked(path, damage=((0, problem),) if problem else ())


def release(disk: Disk, data_dir: str, key: SegmentKey) -> list[str]:
    """Has a held segment tried again by the next delivery half; the destinations it was held for. Raises `InUse`."""
    lock = disk.lock(f"{data_dir}/delivery.lock")
    if lock is None:
        raise InUse("a delivery half works on this data folder: release the segment through its service")
    try:
        book, _ = read_book(disk, _ledger(data_dir))
        names = sorted(destination for held, destination in book.held if held == key)
        if names:
            # Whether a delivered segment's file is gone is for the delivery half to say: here, none is.
            ledger = Ledger(disk, _ledger(data_dir), lambda problem: None, lambda keys: set())
            try:
                ledger.append(*({"t": "released", "s": key, "d": name} for name in names))
            finally:
                ledger.close()
        return names
    finally:
        lock.close()


def _ledger(data_dir: str) -> str:
    return f"{data_dir}/ledger"


def _each(disk: Disk, data_dir: str) -> Iterator[tuple[SegmentKey, str]]:
    found = ((key, suffix) for suffix in STATES for key in _keys(disk, data_dir, suffix))
    yield from sorted(found, key=lambda one: (one[0], tuple(STATES).index(one[1])))


def _keys(disk: Disk, data_dir: str, suffix: str) -> Iterator[SegmentKey]:
    yield from _keys_in(disk, data_dir, "", suffix)
    for id in layout.data_streams(disk, data_dir):
        yield from _keys_in(disk, layout.data_stream_folder(data_dir, id), f"{id}/", suffix)


def _keys_in(disk: Disk, folder: str, of: str, suffix: str) -> Iterator[SegmentKey]:
    for stream in layout.streams(disk, folder):
        for lane in layout.lanes(disk, folder, stream):
            for first in layout.numbers(disk.list(layout.lane_folder(folder, stream, lane)), suffix):
                yield of + stream, lane, first


def _path(data_dir: str, key: SegmentKey, suffix: str) -> str:
    stream, lane, first = key
    id, _, name = stream.rpartition("/")
    folder = layout.data_stream_folder(data_dir, id) if id else data_dir
    return layout.file_of(folder, (name, lane, first), suffix)


def _file(disk: Disk, data_dir: str, key: SegmentKey, suffix: str, book: Book, catalogue: Catalogue) -> File:
    stream, lane, first = key
    view = disk.view(_path(data_dir, key, suffix))
    try:
        file_bytes = len(view.buffer)
        trailer = frame.read_trailer(view.buffer, frame.seed(lane), first)
        if trailer is None:
            seen = recovery.scanned(view.buffer, frame.seed(lane), first, "")
            state = "open" if suffix == layout.OPEN else "damaged"
            count, opened_ms = seen.end - first, seen.opened_ms or None
            return File(stream, lane, first, state, count, seen.size_bytes, file_bytes, opened_ms, None)
    finally:
        view.close()
    owed = _owed(key, trailer.version, book, catalogue) if suffix == layout.SEALED else ()
    held = tuple((name, book.held[key, name]) for name in owed if (key, name) in book.held)
    parted = any(name in book.parted.get(key, {}) for name in owed)
    return File(
        stream,
        lane,
        first,
        "held" if held else "parted" if parted else STATES[suffix],
        trailer.count,
        trailer.size_bytes,
        file_bytes,
        trailer.opened_ms,
        trailer.version,
        owed,
        held,
    )


def _owed(key: SegmentKey, version: int, book: Book, catalogue: Catalogue) -> tuple[str, ...]:
    done = book.delivered.get(key, {})
    return tuple(name for name in catalogue.destinations(key[0], version) if name not in done)


def _checked_segment(disk: Disk, data_dir: str, key: SegmentKey, suffix: str) -> Checked:
    path = _path(data_dir, key, suffix)
    _, lane, first = key
    view = disk.view(path)
    try:
        seen = recovery.scanned(view.buffer, frame.seed(lane), first, path)
        trailer = frame.read_trailer(view.buffer, frame.seed(lane), first)
    finally:
        view.close()
    damage = [(bad.offset, f"{bad.size} damaged bytes, {bad.records} records lost") for bad in seen.damage]
    if trailer is None and suffix != layout.OPEN:  # an open file's torn tail is a write under way, or a crash's rest
        damage.append((seen.good_bytes, "the trailer is missing or damaged"))
    if trailer is not None and trailer.end > seen.end:
        lost = trailer.end - seen.end
        damage.append((seen.good_bytes, f"the last {lost} of {trailer.count} records are lost"))
    return Checked(path, seen.frames, seen.end - first, tuple(damage))


def _checked_ledger(disk: Disk, data_dir: str) -> Checked:
    path = _ledger(data_dir)
    _, bad = read_book(disk, path)
    return Checked(path, damage=tuple(_placed(problem) for problem in bad))


def _placed(problem: str) -> tuple[int, str]:
    """The ledger's own words name the offset of the line; it is told apart from them here."""
    offset, _, what = problem.rpartition("the line at offset ")[2].partition(" ")
    return int(offset), f"the line {what}"


def _checked_catalogue(disk: Disk, data_dir: str) -> Checked:
    path = f"{data_dir}/catalog"
    try:
        Catalogue(disk, data_dir)
    except Damaged as error:
        return Checked(path, damage=((getattr(error.__cause__, "pos", 0), f"cannot be read: {error.__cause__}"),))
    return Checked(path)


def _checked_definitions(disk: Disk, data_dir: str) -> Iterator[Checked]:
    """The files that say what data streams there are."""
    for id in layout.data_streams(disk, data_dir):
        path = layout.definition_of(data_dir, id)
        for one in (path, checked_json.copy_of(path)):
            try:
                checked_json.decode(one, disk.read(one))
            except FileNotFoundError:
                continue  # it is being made, or removed
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                yield Checked(one, damage=((0, f"cannot be read: {error}"),))
            else:
                yield Checked(one)
