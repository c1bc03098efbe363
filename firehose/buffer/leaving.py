"""What is asked of the disk before a segment is forgotten or removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from firehose.buffer import layout, recovery
from firehose.buffer.ledger import Book
from firehose.contracts import Disk
from firehose.model import SegmentKey


def gone(disk: Disk, data_dir: str, keys: Iterable[SegmentKey]) -> set[SegmentKey]:
    """Those whose file is gone and will not come back after a power cut. Each folder is synced once for all. What the
    disk refuses a look at is none of them: one such file must not stop the ledger, which all streams share.
    """
    found = defaultdict[str, set[SegmentKey]](set)
    for key in keys:
        with suppress(OSError):
            if not disk.exists(layout.file_of(data_dir, key)):
                found[layout.lane_folder(data_dir, key[0], key[1])].add(key)
    durably = set[SegmentKey]()
    for folder in sorted(found):
        with suppress(OSError):
            if disk.exists(folder):
                disk.sync_folder(folder)
            durably |= found[folder]
    return durably


def is_damaged(disk: Disk, path: str, book: Book, key: SegmentKey) -> bool:
    """Whether a segment that is delivered has lost records. Where a cut has, it was one of its segments that did."""
    if any(one.damaged for said in (book.delivered, book.parted) for one in said.get(key, {}).values()):
        return True
    cuts = [cut for name in book.parted.get(key, {}) for cut in tuple(book.placed.get((key, name), {}).values())]
    lost = any(one.damaged for cut in cuts for one in tuple(book.delivered.get(cut, {}).values()))
    return lost and bool(recovery.damage(disk, path, key))
