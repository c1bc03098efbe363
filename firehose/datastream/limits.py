"""How much a shard takes and gives in a second, for streams that have AWS's limits.

Source: data-streams.md section 4. An account is overdrawn by what is larger than a second's worth, a record of 10 MiB
or an answer of 10 MiB, and nothing more is let through until it is paid off: so the average holds. Time is monotonic.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from firehose.blocks import MIB

KEYS = 20_000  # as many as an account has shards; past it, who was quiet longest is forgotten


class Meter:
    """For each key, how much of so many a second is left: a second's worth after a second of rest."""

    def __init__(self, per_second: float, now: Callable[[], float], keys: int = KEYS) -> None:
        self._per_second = per_second
        self._now = now
        self._keys = keys
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # at an instant

    def left(self, key: Hashable) -> float:
        now = self._now()
        left, at = self._left.get(key, (self._per_second, now))
        return min(self._per_second, left + (now - at) * self._per_second)

    def take(self, key: Hashable, amount: float) -> None:
        self._left[key] = self.left(key) - amount, self._now()
        self._left.move_to_end(key)
        if len(self._left) > self._keys:
            self._left.popitem(last=False)

    def call(self, key: Hashable) -> bool:
        """Takes one, where one is left."""
        if self.left(key) < 1:
            return False
        self.take(key, 1)
        return True


class WriteLimits:
    """1 MiB and 1000 records a second for each shard."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._bytes = Meter(MIB, now)
        self._records = Meter(1000, now)

    def admitted(self, key: Hashable, sizes: Sequence[int]) -> list[bool]:
        """Which records of one request a shard still takes: their sum counts, rounded up to a full KB."""
        free_bytes, free_records = self._bytes.left(key), int(self._records.left(key))
        said, total, count = [], 0, 0
        for size in sizes:
            fits = _rounded(total + size) <= free_bytes or (total == 0 and free_bytes >= MIB)
            said.append(fits and count < free_records)
            if said[-1]:
                total, count = total + size, count + 1
        self._bytes.take(key, _rounded(total))
        self._records.take(key, count)
        return said


class ReadLimits:
    """5 calls of GetRecords and 2 MiB a second for each shard, 5 iterators beside."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._calls = Meter(5, now)
        self._bytes = Meter(2 * MIB, now)
        self._iterators = Meter(5, now)

    def call(self, key: Hashable) -> bool:
        return self._bytes.left(key) > 0 and self._calls.call(key)

    def iterator(self, key: Hashable) -> bool:
        return self._iterators.call(key)

    def gave(self, key: Hashable, size_bytes: int) -> None:
        self._bytes.take(key, size_bytes)


def _rounded(size: int) -> int:
    return -(-size // 1024) * 1024
