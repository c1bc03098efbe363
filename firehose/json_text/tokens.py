"""Patterns masked wherever a JSON text says something: in strings, in names and in numbers, each by itself.

A string is looked at as what it says, not as it is written, so that no escape hides anything from a pattern; and the
text stays JSON, since a number that is masked becomes a string.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

TOKEN = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*+)')
# With one of these a pattern may match a string, and yet not the text that it stands in.
AT_EDGES = ("^", "$", r"\A", r"\z", r"\B")


class PatternMask:
    """Puts `mask` in the place of whatever one of the patterns matches."""

    def __init__(self, patterns: Sequence[str], mask: str) -> None:
        self._patterns = patterns
        self._mask = mask.replace("\\", "\\\\")
        self._at_edges = any(edge in pattern for pattern in patterns for edge in AT_EDGES)

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        """The texts, each of them valid JSON, masked."""
        if not self._patterns or not texts:
            return texts
        cut = {at: TOKEN.split(texts[at]) for at, is_near in enumerate(self._near(texts)) if is_near}
        masked = self._masked({token for pieces in cut.values() for token in pieces[1::2]})
        seen = list(texts)
        for at, pieces in cut.items() if masked else ():
            pieces[1::2] = [masked.get(token, token) for token in pieces[1::2]]
            seen[at] = "".join(pieces)
        return seen

    def _near(self, texts: Sequence[str]) -> list[bool]:
        """Whether a pattern may match a token of each text: a quick look that may be wrong only the safe way."""
        if self._at_edges:
            return [True] * len(texts)
        column = pa.array(texts, pa.string())
        near = pc.match_substring(column, "\\")
        for pattern in self._patterns:
            near = pc.or_(near, pc.match_substring_regex(column, pattern))
        found: list[bool] = near.to_pylist()
        return found

    def _masked(self, tokens: set[str]) -> dict[str, str]:
        """The tokens that a pattern matches, and what each becomes."""
        written = list(tokens)
        said = [_said(token) for token in written]
        column = pa.array(said, pa.string())
        for pattern in self._patterns:
            column = pc.replace_substring_regex(column, pattern, self._mask)
        both = zip(written, said, column.to_pylist(), strict=True)
        return {token: msgspec.json.encode(new).decode() for token, old, new in both if new != old}


def _said(token: str) -> str:
    return msgspec.json.decode(token, type=str) if token.startswith('"') else token
