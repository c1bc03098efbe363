"""How many letters there are of each kind, while they pass by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from firehose.letters.letter import Letter

KINDS = 1000  # that are told apart: a code is whatever somebody wrote there
OTHERS = "(others)"


@dataclass(slots=True)
class Kind:
    """Letters of one stream, error type and reason. Times are of arrival; None where no letter tells one."""

    stream: str
    error_type: str
    reason: str
    example: str  # a message
    letters: int = 0
    size_bytes: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None

    def add(self, letter: Letter) -> None:
        self.letters += 1
        self.size_bytes += len(letter.data)
        if letter.arrived_ms is not None:
            self.oldest_ms = min(letter.arrived_ms, self.oldest_ms or letter.arrived_ms)
            self.newest_ms = max(letter.arrived_ms, self.newest_ms or letter.arrived_ms)


class Summary:
    """Its memory is bounded: from some number of kinds on, all further ones count as one."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}

    def add(self, letter: Letter) -> None:
        key = (letter.stream, letter.error_type, letter.code)
        if key not in self._kinds and len(self._kinds) >= KINDS:
            key = ("", "", OTHERS)
        if key not in self._kinds:
            self._kinds[key] = Kind(*key, letter.message)
        self._kinds[key].add(letter)

    def __iter__(self) -> Iterator[Kind]:
        """In the order of streams, error types and reasons."""
        yield from (kind for _, kind in sorted(self._kinds.items()))
