"""Says which of the lines that were sent are missing at the far side, and which are there more than once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Count:
    """What became of lines that were sent. `repeated` are surplus copies; `strange` was never sent."""

    missing: Counter[str]
    repeated: Counter[str]
    strange: set[str]

    @property
    def exact(self) -> bool:
        """Everything is there, once, and nothing else."""
        return not (self.missing or self.repeated or self.strange)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "repeated": self.repeated, "strange": self.strange}
        return "; ".join(f"{name} {len(lines)}: {list(lines)[:SHOWN]}" for name, lines in parts.items())


def count(sent: Iterable[str], found: Iterable[str]) -> Count:
    """Compares what was sent with what was found, copy by copy."""
    wanted, there = Counter(sent), Counter(found)
    surplus = there - wanted
    strange = set(surplus) - set(wanted)
    return Count(wanted - there, Counter({line: n for line, n in surplus.items() if line not in strange}), strange)


def assert_each_once(sent: Iterable[str], found: Iterable[str]) -> None:
    counted = count(sent, found)
    assert counted.exact, str(counted)


def access_log(lines: int, seed: int = 1) -> list[str]:
    """Lines as a web server writes them (Combined Log Format), no two alike."""
    dice = random.Random(seed)
    agents = ("Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", 'odd "agent" \\x22 {"a": }', "Bot/1.0 (ünïcode ☂)")
    return [
        f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)} - - "
        f"[17/May/2015:10:{number // 60 % 60:02d}:{number % 60:02d} +0000] "
        f'"GET /item/{seed}-{number:07d}?q={dice.getrandbits(64):x} HTTP/1.1" '
        f'{dice.choice((200, 200, 304, 404, 500))} {dice.randrange(100_000)} "-" "{dice.choice(agents)}"'
        for number in range(lines)
    ]


class Fates:
    """What became of numbered records, a byte for each: fit for millions. Numbers are sent once and never again."""

    def __init__(self) -> None:
        self._acknowledged = bytearray()
        self._found = bytearray()
        self.invented = 0

    def take(self, count: int) -> range:
        """Numbers to send next."""
        first = len(self._found)
        self._acknowledged.extend(bytes(count))
        self._found.extend(bytes(count))
        return range(first, first + count)

    def acknowledge(self, numbers: range) -> None:
        self._acknowledged[numbers.start : numbers.stop] = b"\1" * len(numbers)

    def find(self, number: int) -> None:
        """It was found at the far side, once more."""
        if number < len(self._found):
            self._found[number] = min(self._found[number] + 1, 255)
        else:
            self.invented += 1

    @property
    def acknowledged(self) -> int:
        return self._acknowledged.count(1)

    @property
    def missing(self) -> int:
        return sum(told and not times for told, times in zip(self._acknowledged, self._found, strict=True))

    @property
    def doubled(self) -> int:
        return len(self._found) - self._found.count(0) - self._found.count(1)

    def __str__(self) -> str:
        wrong = f"missing {self.missing}, doubled {self.doubled}, invented {self.invented}"
        return f"{self.acknowledged} acknowledged: {wrong}"
