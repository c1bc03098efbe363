"""Which requests a stream has taken already, by the ids their senders gave, as cursors of origins.

An origin becomes durable in the same frame as the records, so a request is either stored and remembered, or neither.
Ids stand in slots, each a source partition of its own that has one append under way at most. A slot that is full is
written anew once its newest id has been kept for long enough: so a stream's memory is bounded, nothing ever has to be
removed from a buffer or a ledger, and what was delivered long ago is known all the same. A stream that takes more
requests than its slots hold in that time forgets the oldest ones early, and says so.

A cursor is `1:`, its format, the newest id's time in milliseconds, and 16 bytes for each id, in base64.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import pyarrow as pa
from pybase64 import b64decode, b64encode

from firehose import observe
from firehose.contracts import Appender, Full
from firehose.model import NewerFormat, Origin

PARTITION = "requests:"
FORMAT = 1
ID_BYTES = 16
SLOT_IDS = 64
SLOTS_LIMIT = 8192  # half a million ids, and 12 MB of cursors


@dataclass(slots=True)
class Slot:
    """Some ids, and when the newest of them came."""

    number: int
    newest_ms: int = 0
    ids: tuple[bytes, ...] = ()

    @staticmethod
    def of(origin: Origin) -> Slot:
        """Raises `NewerFormat`."""
        found, _, said = origin.cursor.partition(":")
        if int(found) > FORMAT:
            raise NewerFormat("the memory of requests", int(found), FORMAT)
        newest_ms, _, packed = said.partition(":")
        whole = b64decode(packed, validate=True)
        ids = tuple(whole[at : at + ID_BYTES] for at in range(0, len(whole), ID_BYTES))
        return Slot(int(origin.partition.removeprefix(PARTITION)), int(newest_ms), ids)

    @property
    def partition(self) -> str:
        return f"{PARTITION}{self.number}"

    @property
    def origin(self) -> Origin:
        return Origin(self.partition, f"{FORMAT}:{self.newest_ms}:{b64encode(b''.join(self.ids)).decode()}")

    def adding(self, id: bytes, now_ms: int) -> Slot:
        return Slot(self.number, max(self.newest_ms, now_ms), (*self.ids, id))


@dataclass(slots=True)
class Requests:
    """The requests of one stream. Lives in the event loop. Raises `NewerFormat` where a later release was here."""

    appender: Appender
    now_ms: Callable[[], int]
    keep_ms: int
    slots_limit: int = SLOTS_LIMIT
    _slot_of: dict[bytes, Slot] = field(default_factory=dict)
    _open: list[Slot] = field(default_factory=list)  # the one that was used last is used next
    _full: deque[Slot] = field(default_factory=deque)  # oldest first
    _in_doubt: dict[bytes, Slot] = field(default_factory=dict)  # the disk failed under the id
    _under_way: dict[bytes, asyncio.Future[None]] = field(default_factory=dict)
    _slots: int = 0

    def __post_init__(self) -> None:
        known = [Slot.of(one) for name, one in self.appender.origins().items() if name.startswith(PARTITION)]
        self._slots = 1 + max((slot.number for slot in known), default=-1)
        for slot in sorted(known, key=lambda one: one.newest_ms):
            self._put(slot)

    async def store(self, id: str, records: pa.RecordBatch) -> bool:
        """Appends the records, with the id in the same frame; False where it is known. A second copy that comes while
        the first is being stored waits for that. Raises what `Appender.append` does.
        """
        key = blake2b(id.encode(), digest_size=ID_BYTES).digest()
        while key in self._under_way:
            await asyncio.wait([self._under_way[key]])
        self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._stored(key, records)
        finally:
            self._under_way.pop(key).set_result(None)

    async def _stored(self, key: bytes, records: pa.RecordBatch) -> bool:
        doubtful = self._settled(key)
        if self._knows(key):
            return False
        slot = doubtful or self._take()
        after = slot.adding(key, self.now_ms())
        try:
            await self.appender.append(records, after.origin)
        except Full:
            if doubtful:
                self._in_doubt[key] = slot
            else:
                self._put(slot)
            raise
        except BaseException:
            self._in_doubt[key] = slot
            raise
        self._put(after)
        return True

    def _settled(self, key: bytes) -> Slot | None:
        """The slot of an id that the disk failed under, which nobody else has had since. None where the id was stored
        after all. Until it is known whether it was, an append to the slot is refused, and changes nothing.
        """
        slot = self._in_doubt.pop(key, None)
        if slot is None:
            return None
        origin = self.appender.origins().get(slot.partition)
        now = Slot.of(origin) if origin is not None else slot
        if key not in now.ids:
            return slot
        self._put(now)
        return None

    def _knows(self, key: bytes) -> bool:
        slot = self._slot_of.get(key)
        return slot is not None and not self._expired(slot)

    def _expired(self, slot: Slot) -> bool:
        return slot.newest_ms + self.keep_ms < self.now_ms()

    def _take(self) -> Slot:
        if self._open:
            slot = self._open.pop()
            return self._emptied(slot) if self._expired(slot) else slot
        if self._full and self._expired(self._full[0]):
            return self._emptied(self._full.popleft())
        if self._slots < self.slots_limit:
            self._slots += 1
            return Slot(self._slots - 1)
        if not self._full:
            raise Full("more requests are in doubt than can be remembered; mend the disk")
        kept_ms = self.now_ms() - self._full[0].newest_ms
        observe.log.warning("requests.forgotten", ids=len(self._full[0].ids), kept_hours=kept_ms / 3_600_000)
        return self._emptied(self._full.popleft())

    def _emptied(self, slot: Slot) -> Slot:
        for id in slot.ids:
            if self._slot_of.get(id) is slot:  # it may have come again since, and stand in another one
                del self._slot_of[id]
        return Slot(slot.number)

    def _put(self, slot: Slot) -> None:
        for id in slot.ids:
            self._slot_of[id] = slot
        if len(slot.ids) < SLOT_IDS:
            self._open.append(slot)
        else:
            self._full.append(slot)
