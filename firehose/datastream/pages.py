"""What readers of one place share: its records are read once and encoded once, however many ask at the same time.

A page is what one read gives. One that ends before the tip never changes; one that ends at the tip is right until the
tip moves. Of its bytes only the names are noted: they are kept elsewhere, under a bound of their own, and where some
are gone the page is read again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

from firehose.datastream.contracts import ShardLog
from firehose.datastream.encoding import EncodedRecords, Encoding, PieceName, size_bytes
from firehose.datastream.model import Definition, Shard
from firehose.http.shared import Piece

NAMES = 16 * 1024  # of pieces, that are noted for all pages together: a few MB


class Wanted(NamedTuple):
    """Records from a position on, within both bounds."""

    position: int
    most_records: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """What a read gave, beside the bytes. `next` and `waiting_ms` are as a run has them."""

    names: list[PieceName]
    last_ms: int | None  # when the last of its records arrived; None where it has none
    size_bytes: int  # of the records and their keys
    next: int
    waiting_ms: int | None
    tip: int  # of the shard, before it was read

    def is_right(self, tip: int) -> bool:
        return self.waiting_ms is not None or self.tip == tip


_Key = tuple[str, str, int, bool, Wanted]  # format, stream, shard, encrypted
Found = tuple[Page, list[Piece]]


class Pages:
    """Reads and encodes for all readers. Lives in the event loop."""

    def __init__(self, encoded: EncodedRecords | None = None) -> None:
        self._encoded = encoded or EncodedRecords()
        self._noted: OrderedDict[_Key, Page] = OrderedDict()
        self._names = 0  # of the pages that are noted; one without records counts as if it had one
        self._turns: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def find(self, definition: Definition, shard: Shard, log: ShardLog, wanted: Wanted, form: Encoding) -> Found:
        """The page and its records as they stand in a list. Whoever comes first reads, the others wait for that."""
        key = (form.kind, definition.id, shard.number, definition.key_id is not None, wanted)
        found = self._known(key, log)
        if found is None:
            async with self._turns.setdefault(key, asyncio.Lock()):
                found = self._known(key, log) or await self._read(key, definition, shard, log, form)
        return found

    def _known(self, key: _Key, log: ShardLog) -> Found | None:
        page = self._noted.get(key)
        if page is None or not page.is_right(log.tip):
            return None
        pieces = self._encoded.recall(page.names)
        return None if pieces is None else (page, pieces)

    async def _read(self, key: _Key, definition: Definition, shard: Shard, log: ShardLog, form: Encoding) -> Found:
        tip, run = log.tip, await log.read(*key[-1])
        names = self._encoded.names(definition, shard, run, form)
        page = Page(names, run.last_ms, size_bytes(run), run.next, run.waiting_ms, tip)
        self._note(key, page)
        return page, self._encoded.pieces(definition, shard, run, form)

    def _note(self, key: _Key, page: Page) -> None:
        if key in self._noted:
            self._names -= len(self._noted.pop(key).names) or 1
        self._noted[key] = page
        self._names += len(page.names) or 1
        while self._names > NAMES:
            self._names -= len(self._noted.popitem(last=False)[1].names) or 1
