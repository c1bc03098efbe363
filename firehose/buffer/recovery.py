"""What a start finds on disk, made whole: orphaned files sealed, lanes counted, empty dead lanes folded.

Runs in the ingest half before anything is appended or delivered, and again for a lane that a failing disk made us
abandon. It refuses nothing but a newer format: what is damaged is delivered as far as it goes and reported.

The lanes of a stream that are dead and empty are folded: their counts and origins move into one small file,
`<stream>/lanes`, a JSON object {"format": 2, "records": n, "origins": {...}, "folded": [lane, ...], "crc"} (see
`checked_json`); the folders of the `folded` ones are removed after it is durable, and do not count again if a crash
left them. A file that cannot be understood is kept aside as `lanes.damaged` and reported: then the counts of what was
folded are lost.

The delivery half of a service that died may still be at work here: files may go away between two looks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from firehose import checked_json
from firehose.buffer import frame, layout
from firehose.buffer.lane import seal_file, segment_of
from firehose.contracts import Disk
from firehose.model import Segment, SegmentKey
from firehose.rows import values_bytes

VERSIONS = 4096  # of a definition that a damaged trailer is compared with


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that are no valid frame, and the records that were lost with them."""

    path: str
    offset: int
    size: int
    records: int

    def __str__(self) -> str:
        return f"{self.path}: {self.size} bytes at offset {self.offset} are damaged, {self.records} records lost"


@dataclass(slots=True)
class Recovered:
    """A stream's buffer as a start finds it."""

    accepted: int = 0  # records ever taken, by the lanes' own numbers
    segments: dict[Segment, int] = field(default_factory=dict)  # and the bytes of their files
    origins: frame.Origins = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    torn: list[Damage] = field(default_factory=list)  # ends of open files that were cut: writes that never ended
    locked: list[str] = field(default_factory=list)  # lanes that another process writes

    def add_origins(self, origins: frame.Origins) -> None:
        frame.add_newest(self.origins, origins)


@dataclass(slots=True)
class Scanned:
    """What a whole pass over a segment file's frames says."""

    end: int  # number behind the last record
    good_bytes: int = 0  # offset behind the last valid frame
    size_bytes: int = 0
    opened_ms: int = 0
    frames: int = 0
    summary_at: int = 0  # offset of the last frame, where that has origins alone
    origins: frame.Origins = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)


def recover(disk: Disk, data_dir: str, stream: str, version: int) -> Recovered:
    """Mends and counts all lanes of a stream. `version` is the definition's, for what must be sealed now."""
    found = Recovered()
    folded = _read_folded(disk, data_dir, stream, found)
    found.accepted, found.origins = folded.records, dict(folded.origins)
    names = [name for name in layout.lanes(disk, data_dir, stream) if name not in folded.names]
    empty = [name for name in names if recover_lane(disk, data_dir, stream, name, version, found)]
    _fold(disk, data_dir, stream, folded, empty, found)
    return found


def recover_lane(disk: Disk, data_dir: str, stream: str, lane: str, version: int, found: Recovered) -> bool:
    """Adds one lane to what was found. True where it is dead and nothing of it is left but its count."""
    folder = layout.lane_folder(data_dir, stream, lane)
    lock = disk.lock(folder)
    if lock is None:
        found.locked.append(lane)
        return False
    try:
        for first in layout.numbers(disk.list(folder), layout.OPEN):
            mend(disk, folder, lane, first, version, found)
        disk.sync_folder(folder)  # a kill may have come between a rename and its sync
        names = [name for name in disk.list(folder) if not name.endswith(layout.OPEN)]
        ends = layout.numbers(names, layout.HEAD)
        for first in layout.numbers(names, layout.SEALED):
            try:
                segment = _sealed(disk, folder, stream, lane, first, version, found)
                found.segments[segment] = disk.size(layout.numbered(folder, first, layout.SEALED))
            except FileNotFoundError:
                continue  # delivered meanwhile, and counted by the head
            ends.append(segment.end)
        _count_on(disk, folder, ends, layout.numbers(names, layout.HEAD))
        found.accepted += max(ends, default=0)
        return not any(name.endswith((layout.SEALED, layout.DAMAGED)) for name in names)
    finally:
        lock.close()


def _count_on(disk: Disk, folder: str, ends: list[int], heads: list[int]) -> None:
    """Sees that the lane's count outlives its sealed files: a power cut may leave their names and not the head's."""
    end = max(ends, default=0)
    if end > max(heads, default=0):
        disk.create(layout.numbered(folder, end, layout.HEAD)).close()
        disk.sync_folder(folder)


def mend(
    disk: Disk, folder: str, lane: str, first: int, version: int, found: Recovered, limit: int | None = None
) -> bool:
    """Seals an orphaned open file: cuts its torn tail (or all behind `limit` bytes), ends it, renames it.

    Its origins and damage are added to `found`. False where it holds no record: it stays for the fold, which keeps
    its origins.
    """
    path = layout.numbered(folder, first, layout.OPEN)
    crc_seed = frame.seed(lane)
    if not disk.exists(path):  # renamed already, when the folder's sync failed
        disk.sync_folder(folder)
        return True
    heads = layout.numbers(disk.list(folder), layout.HEAD)
    view = disk.view(path)
    try:
        upto = size = len(view.buffer) if limit is None else min(limit, len(view.buffer))
        trailer = frame.read_trailer(view.buffer, crc_seed, first) if limit is None else None
        if trailer and trailer.summary_at and not frame.read_frame(view.buffer, trailer.summary_at, crc_seed):
            upto, trailer = trailer.summary_at, None  # both were written, neither synced: this is a torn tail too
        seen = scanned(view.buffer.slice(0, upto), crc_seed, first, path)
    finally:
        view.close()
    found.add_origins(seen.origins)
    found.damage += seen.damage
    if trailer is None and size > seen.good_bytes:
        found.torn.append(Damage(path, seen.good_bytes, size - seen.good_bytes, 0))
    if trailer is None and seen.end == first:
        if limit is not None:
            _settled(disk, path, limit)
        return False
    if trailer is None:
        trailer = end_file(disk, path, crc_seed, first, version, seen, seen.good_bytes)
    else:
        _settled(disk, path, size)
    seal_file(disk, folder, first, trailer.end, max(heads, default=None))
    return True


def _settled(disk: Disk, path: str, size: int) -> None:
    """Makes the first `size` bytes of the file durable, which until now a crash might have undone; cuts the rest."""
    writer = disk.reopen(path, size)
    try:
        writer.sync()
    finally:
        writer.close()


def end_file(disk: Disk, path: str, crc_seed: int, first: int, version: int, seen: Scanned, size: int) -> frame.Trailer:
    """Cuts the file to `size` bytes and writes the summary of its origins and its trailer there."""
    writer = disk.reopen(path, size)
    try:
        summary_at = 0
        if seen.origins:
            summary_at = size
            writer.write(*frame.encode_frame([], seen.end, seen.opened_ms, seen.origins, crc_seed))
        trailer = frame.Trailer(version, first, seen.end - first, seen.size_bytes, seen.opened_ms, summary_at)
        writer.write(frame.encode_trailer(trailer, crc_seed))
        writer.sync()
    finally:
        writer.close()
    return trailer


def scanned(buffer: pa.Buffer, crc_seed: int, first: int, path: str, last: int | None = None) -> Scanned:
    """Reads all frames of a segment file, checksums and all."""
    seen = Scanned(first)
    gap: frame.Gap | None = None
    for item in frame.scan(buffer, crc_seed, first, last):
        if isinstance(item, frame.Gap):
            gap = item
            if not item.torn:
                seen.damage.append(Damage(path, item.offset, item.size, 0))
            continue
        if item.first > seen.end:
            lost = item.first - seen.end
            if gap:
                seen.damage.pop()
            seen.damage.append(Damage(path, gap.offset if gap else item.offset, gap.size if gap else 0, lost))
        gap = None
        if seen.end == first:  # as the writer does: origins alone do not open a segment
            seen.opened_ms = item.arrival_ms
        seen.end, seen.good_bytes = item.end, item.offset + item.size
        seen.size_bytes += values_bytes(frame.read_records(buffer, item).column("record"))
        frame.add_newest(seen.origins, frame.read_origins(buffer, item))
        seen.frames += 1
        seen.summary_at = 0 if item.count else item.offset
    return seen


def _sealed(disk: Disk, folder: str, stream: str, lane: str, first: int, version: int, found: Recovered) -> Segment:
    """Identity of a sealed file: by its trailer, or where that is damaged, by all of its frames and a new trailer."""
    path = layout.numbered(folder, first, layout.SEALED)
    crc_seed = frame.seed(lane)
    view = disk.view(path)
    try:
        trailer = frame.read_trailer(view.buffer, crc_seed, first)
        if trailer is not None:
            found.add_origins(summary(view.buffer, crc_seed, first))
            return segment_of(stream, lane, trailer)
        last, size = _next_known(disk.list(folder), first), len(view.buffer)
        seen = scanned(view.buffer, crc_seed, first, path, last)
        lost = _lost(first, last, seen, view.buffer.slice(seen.good_bytes))
        rest = bytes(view.buffer.slice(max(0, size - frame.TRAILER.size)))
        version = _likeliest_version(rest, crc_seed, seen, first, version)
    finally:
        view.close()
    found.damage += _with_end(seen, Damage(path, seen.good_bytes, size - seen.good_bytes, lost))
    found.add_origins(seen.origins)
    seen.end += lost
    return segment_of(stream, lane, end_file(disk, path, crc_seed, first, version, seen, size))


def _likeliest_version(rest: bytes, crc_seed: int, seen: Scanned, first: int, newest: int) -> int:
    """The version of the definition that a damaged trailer was written with: what its checksum would be right for,
    else what it says. The newest where both are gone.
    """

    def agreement(version: int) -> int:
        trailer = frame.Trailer(version, first, seen.end - first, seen.size_bytes, seen.opened_ms, seen.summary_at)
        whole = frame.encode_trailer(trailer, crc_seed)
        return 2 * (whole[60:] == rest[60:]) + (whole[12:16] == rest[12:16])

    return max(range(newest, max(0, newest - VERSIONS), -1), key=agreement)


def _next_known(names: list[str], first: int) -> int | None:
    """The first number behind `first` that the lane's files still know: no segment goes further."""
    suffixes = (layout.SEALED, layout.DAMAGED, layout.OUT, layout.HEAD)
    return min(
        (number for suffix in suffixes for number in layout.numbers(names, suffix) if number > first), default=None
    )


def _lost(first: int, last: int | None, seen: Scanned, rest: pa.Buffer) -> int:
    """How many records were lost behind the last valid frame of a sealed file whose trailer is damaged.

    None where the trailer alone is damaged; else at most all up to the next number that the lane still knows.
    """
    alone = len(rest) == frame.TRAILER.size and bytes(rest[: len(frame.FRAME_MAGIC)]) != frame.FRAME_MAGIC
    if seen.end > first and alone:
        return 0
    return max((last or seen.end) - seen.end, 0 if seen.end > first else 1)


def summary(buffer: pa.Buffer, crc_seed: int, first: int) -> frame.Origins:
    """The newest origin of each source partition in a sealed segment."""
    trailer = frame.read_trailer(buffer, crc_seed, first)
    if trailer is None or not trailer.summary_at:
        return {}
    said = frame.read_frame(buffer, trailer.summary_at, crc_seed)
    return frame.read_origins(buffer, said) if said else scanned(buffer, crc_seed, first, "").origins


@dataclass(frozen=True, slots=True)
class _Folded:
    records: int = 0
    origins: frame.Origins = field(default_factory=dict)
    names: frozenset[str] = frozenset()


def _read_folded(disk: Disk, data_dir: str, stream: str, found: Recovered) -> _Folded:
    path = f"{layout.stream_folder(data_dir, stream)}/{layout.LANES}"
    if not disk.exists(path):
        return _Folded()
    content = disk.read(path)
    try:
        said = checked_json.decode(path, content)
        origins = msgspec.convert(said["origins"], frame.Origins)
        return _Folded(msgspec.convert(said["records"], int), origins, msgspec.convert(said["folded"], frozenset[str]))
    except (ValueError, TypeError, KeyError, RecursionError):
        disk.rename(path, f"{path}.damaged")
        disk.sync_folder(layout.stream_folder(data_dir, stream))
        found.damage.append(Damage(path, 0, len(content), 0))
        return _Folded()


def _fold(disk: Disk, data_dir: str, stream: str, old: _Folded, empty: list[str], found: Recovered) -> None:
    """Moves the counts of dead, empty lanes into the one file, then removes their folders.

    Lanes that the file already counts go for good before their names leave it.
    """
    gone = [name for name in layout.lanes(disk, data_dir, stream) if name in old.names]
    for name in gone:
        remove_lane(disk, layout.lane_folder(data_dir, stream, name))
    if gone:
        disk.sync_folder(layout.stream_folder(data_dir, stream))
    if not empty:
        return
    counts = sum(_count(disk, layout.lane_folder(data_dir, stream, name)) for name in empty)
    said = {"records": old.records + counts, "origins": found.origins, "folded": empty}
    folder = layout.stream_folder(data_dir, stream)
    disk.replace(f"{folder}/{layout.LANES}", checked_json.encode(said))
    for name in empty:
        remove_lane(disk, layout.lane_folder(data_dir, stream, name))
    disk.sync_folder(folder)


def _count(disk: Disk, folder: str) -> int:
    return max(layout.numbers(disk.list(folder), layout.HEAD), default=0)


def remove_lane(disk: Disk, folder: str) -> None:
    for name in disk.list(folder):
        disk.remove(f"{folder}/{name}")
    disk.remove_folder(folder)


def segments(
    disk: Disk, data_dir: str, stream: str, damaged: Callable[[str], None], known: Container[SegmentKey] = ()
) -> Iterator[Segment]:
    """The sealed segments of a stream that lie on disk now and are not known, oldest first within each lane. `damaged`
    is told of those that nobody can know any more before a start mends them.
    """
    for lane in layout.lanes(disk, data_dir, stream):
        folder = layout.lane_folder(data_dir, stream, lane)
        for first in layout.numbers(disk.list(folder), layout.SEALED):
            key = stream, lane, first
            if key in known:
                continue
            segment = read_segment(disk, data_dir, key)
            if segment is not None:
                yield segment
            elif disk.exists(path := layout.file_of(data_dir, key)):
                damaged(f"{path}: its trailer is damaged, which a restart of the service mends")


def read_segment(disk: Disk, data_dir: str, key: SegmentKey) -> Segment | None:
    """Identity of one sealed file by its trailer; None where it is gone or its trailer is damaged."""
    try:
        view = disk.view(layout.file_of(data_dir, key))
    except FileNotFoundError:
        return None
    try:
        trailer = frame.read_trailer(view.buffer, frame.seed(key[1]), key[2])
        return segment_of(key[0], key[1], trailer) if trailer else None
    finally:
        view.close()


def damage(disk: Disk, path: str, key: SegmentKey) -> list[Damage]:
    """All that is damaged in an ended file of this segment, its last records and its trailer included."""
    _, lane, first = key
    view = disk.view(path)
    try:
        seen = scanned(view.buffer, frame.seed(lane), first, path)
        trailer = frame.read_trailer(view.buffer, frame.seed(lane), first)
        rest = len(view.buffer) - seen.good_bytes
    finally:
        view.close()
    lost = trailer.end - seen.end if trailer else 0
    if trailer is None or lost:
        return _with_end(seen, Damage(path, seen.good_bytes, rest, lost))
    return seen.damage


def _with_end(seen: Scanned, end: Damage) -> list[Damage]:
    """What is damaged, all behind the last valid frame taken as one."""
    return [*(one for one in seen.damage if one.offset < end.offset), end]
