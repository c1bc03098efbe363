"""Parts of bodies that many answers share, in memory files: the kernel sends them from there without a copy.

A memory file has no name and lies on no disk; it is gone with its last descriptor. It is never written again: what the
kernel was told to send it still reads from there until the client has it, long after this process is done with it.
"""

from __future__ import annotations

import mmap
import os
import resource
from weakref import WeakSet

SHARED_BYTES = 256 * 1024  # smaller parts cost more by their descriptors and system calls than by their copies
MOST_FILES = 128  # each takes a descriptor, and another one while it is mapped


class SharedPiece:
    """Bytes in a memory file, for as long as anybody refers to this: a cache, or an answer under way."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        self._size_bytes = size_bytes
        self._mapped: memoryview | None = None

    def __len__(self) -> int:
        return self._size_bytes

    def __del__(self) -> None:
        os.close(self.descriptor)

    def in_memory(self) -> memoryview | bytes:
        """Mapped once for all who ask; a copy where no descriptor is left for that."""
        if self._mapped is None:
            try:
                self._mapped = memoryview(mmap.mmap(self.descriptor, self._size_bytes, prot=mmap.PROT_READ))
            except OSError:
                return os.pread(self.descriptor, self._size_bytes, 0)
        return self._mapped


Piece = bytes | SharedPiece
Pieces = tuple[Piece, ...]  # of a large body, which other answers may share


class MemoryFiles:
    """Makes them: never more than `most` at a time."""

    def __init__(self, most: int = MOST_FILES) -> None:
        self._most = most
        self._made = WeakSet[SharedPiece]()

    def shared(self, said: bytes) -> Piece:
        """The same in a memory file; as it is where it is small, or the system has no such file, or none left."""
        if len(said) < SHARED_BYTES or len(self._made) >= self._most:
            return said
        if not (hasattr(os, "memfd_create") and hasattr(os, "sendfile")):
            return said
        try:
            piece = SharedPiece(os.memfd_create("firehose"), len(said))
            if not can_be_spared(piece.descriptor) or os.write(piece.descriptor, said) < len(said):
                return said
        except OSError:
            return said
        self._made.add(piece)
        return piece


def can_be_spared(descriptor: int) -> bool:
    """Whether half of the descriptors that this process may have are left for connections and the disk, which cannot do
    without: they are given out lowest first.
    """
    return descriptor < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def in_memory(piece: Piece) -> bytes | memoryview:
    return piece.in_memory() if isinstance(piece, SharedPiece) else piece
