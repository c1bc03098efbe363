"""Which lines of an object of dead letters a stream has had back already, as the cursor of an origin.

An origin becomes durable in the same frame as the records, so a letter is either stored and remembered or neither.
An object's lines are remembered in blocks, each a source partition of its own: so no cursor is larger than about
11 KiB however many lines an object has, and where they came in runs it is a few dozen bytes.

A cursor is `1:`, its format, and a bitmap of the block's lines, the lowest bit of the first byte first, deflated, in
base64.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from zlib import compress, decompressobj

from pybase64 import b64decode, b64encode

from firehose.model import NewerFormat

BLOCK_LINES = 65_536
PARTITION = "letters:"
FORMAT = 1


def partition(letters: str, block: int) -> str:
    """The source partition of that block of that object, whose name may be of any length."""
    name = letters.encode(errors="surrogateescape")
    return f"{PARTITION}{blake2b(name, digest_size=16).hexdigest()}:{block}"


class Lines:
    """The lines of one block that were replayed. `cursor` is what `Lines` can be made from again."""

    def __init__(self, cursor: str = "") -> None:
        """Raises `NewerFormat`."""
        found, _, said = cursor.partition(":")
        if cursor and int(found) > FORMAT:
            raise NewerFormat("the memory of replayed letters", int(found), FORMAT)
        packed = b64decode(said, validate=True)
        self._bitmap = bytearray(decompressobj().decompress(packed, BLOCK_LINES // 8) if packed else b"")
        self._bitmap.extend(bytes(BLOCK_LINES // 8 - len(self._bitmap)))

    @property
    def cursor(self) -> str:
        return f"{FORMAT}:{b64encode(compress(self._bitmap.rstrip(bytes(1)))).decode()}"

    def add(self, lines: Iterable[int]) -> list[int]:
        """Adds lines, one by one; which places of `lines` are new."""
        return [place for place, line in enumerate(lines) if self._is_new(line % BLOCK_LINES)]

    def _is_new(self, line: int) -> bool:
        at, bit = line >> 3, 1 << (line & 7)
        new = not self._bitmap[at] & bit
        self._bitmap[at] |= bit
        return new
