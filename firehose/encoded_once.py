"""An object's bytes, made once for all of a stream's destinations that want the very same ones.

Whoever comes first encodes into a file, the others wait for that, which is no longer than their own work would take,
and read it. Nobody waits for another's far side. The files are a cache under a bound: nothing rests on them, what is
not there is encoded anew, and a start clears what a kill has left. Where the disk is nearly full, or fails, each
destination encodes for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from weakref import WeakValueDictionary

import pyarrow as pa

from firehose.contracts import Disk, View
from firehose.formats import Encoded
from firehose.model import Rejections, SegmentKey

LIMIT_BYTES = 256 << 20  # of all files together; one alone may be larger
ROOM_BYTES = 1 << 30  # that are to be free on the disk
PIECE_BYTES = 1 << 20

Key = tuple[SegmentKey, frozenset[str]]  # of a segment, and of the destinations that want it alike


@dataclass(slots=True)
class Kept:
    """An object's bytes in a file, open for one reader; no view where there is no object."""

    view: View | None
    refused: Rejections

    def pieces(self) -> Iterator[pa.Buffer]:
        assert self.view is not None
        size = self.view.buffer.size
        for start in range(0, size, PIECE_BYTES):
            end = min(start + PIECE_BYTES, size)
            yield self.view.buffer.slice(start, end - start)
            self.view.release(start, end)

    def close(self) -> None:
        if self.view is not None:
            self.view.close()


@dataclass(slots=True)
class _Made:
    path: str
    size_bytes: int
    refused: Rejections
    waiting: set[str]  # destinations that have not taken it yet


class EncodedOnce:
    """The files of one process. Threads share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: WeakValueDictionary[Key, threading.Lock] = WeakValueDictionary()
        self._made: dict[Key, _Made] = {}

    def kept(self, key: Key, disk: Disk, folder: str, encode: Callable[[], Encoded]) -> Kept | None:
        """What was encoded, here and now where nobody has; None where it cannot be kept."""
        try:
            with self._turn(key):
                made = self._made.get(key) or self._make(key, disk, folder, encode())
                return None if made is None else Kept(disk.view(made.path) if made.path else None, made.refused)
        except OSError:
            return None

    def taken(self, key: Key, destination: str, disk: Disk) -> None:
        """One destination has it; the file goes with the last one."""
        with self._guard:
            made = self._made.get(key)
            if made is None:
                return
            made.waiting.discard(destination)
            if made.waiting:
                return
            del self._made[key]
        _discard(disk, made.path)

    def _turn(self, key: Key) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(key, threading.Lock())

    def _make(self, key: Key, disk: Disk, folder: str, encoded: Encoded) -> _Made | None:
        disk.make_folder(folder)
        if encoded.companions or disk.free_bytes(folder) < ROOM_BYTES:
            return None
        path = f"{folder}/{blake2b(repr((key[0], sorted(key[1]))).encode(), digest_size=16).hexdigest()}"
        try:
            size_bytes = _written(disk, path, encoded)
        except BaseException:
            _discard(disk, path)
            raise
        if not size_bytes:
            _discard(disk, path)
        made = _Made(path if size_bytes else "", size_bytes, encoded.refused, set(key[1]))
        with self._guard:
            self._made[key] = made
            old = self._surplus()
        for path in old:
            _discard(disk, path)
        return made

    def _surplus(self) -> list[str]:
        """Forgets the oldest, until the bound is kept."""
        paths: list[str] = []
        while len(self._made) > 1 and sum(made.size_bytes for made in self._made.values()) > LIMIT_BYTES:
            paths.append(self._made.pop(next(iter(self._made))).path)
        return paths


def clear(disk: Disk, folder: str) -> None:
    """What an earlier process has left. No start fails for it."""
    try:
        names = disk.list(folder)
    except OSError:
        return
    for name in names:
        _discard(disk, f"{folder}/{name}")


def _written(disk: Disk, path: str, encoded: Encoded) -> int:
    if disk.exists(path):
        disk.remove(path)
    writer = disk.create(path)
    try:
        return sum(writer.write(chunk) for chunk in encoded.chunks)
    finally:
        writer.close()


def _discard(disk: Disk, path: str) -> None:
    try:
        if path and disk.exists(path):
            disk.remove(path)
    except OSError:
        pass  # the next start clears it
