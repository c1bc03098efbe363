r"""Queries that make a text of texts, answered without jq where it is certain what jq says.

`.trace[0:1] + "-" + .level`, `"\(.a)/\(.b)"`, `.a // "none"` and the usual ways to a date cost jq many times as much.
What is not understood of a query, or of a record, is no harm: jq is asked then. So whatever might not be the same must
be left to jq. None of these queries can loop, or make more of what it is given than there are words in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import msgspec

from firehose.partitioning.documents import NULL_TEXT, Seen, text_of, walked
from firehose.partitioning.functions import FUNCTIONS, Function, Unsure, of_text

_PLAIN = r'(?:[^"\\]|\\["\\/bfnrt])*'  # of a string
_NAME = rf'\.(?:([A-Za-z_][A-Za-z0-9_]*)|"({_PLAIN})")'
_PATH = rf"\s*((?:{_NAME})+)"
_STRING = rf'\s*"({_PLAIN})"'
_CHUNK = rf'({_PLAIN})("|\\\()'  # of a string, up to its end or to an expression inside
_PART = r"\s*\[\s*(-?\d{1,9})?\s*:\s*(-?\d{1,9})?\s*\]"
_WHAT_CAME = r"\s*\.(?=\[)"
NUMBER_DIGITS = 11

Row = Sequence[str | bytes]  # a record's fields: strings as such, anything as it is written
Term = Callable[[Row], Any]  # makes a text, a whole number that is not negative, or None, which is null


def answering(query: str, names: Sequence[str]) -> Callable[[Seen], str]:
    """What makes keys of the named fields, an empty one where jq must be asked."""
    try:
        term = _Reading(query, names).whole()
    except (Unsure, msgspec.DecodeError, RecursionError):
        return lambda _: ""

    def answer(seen: Seen) -> str:
        row = (seen,) if isinstance(seen, str) else seen
        try:
            made = term(row) if isinstance(row, tuple) else None
        except (Unsure, msgspec.DecodeError, RecursionError):
            return ""
        return made if isinstance(made, str) else ""

    return answer


class _Reading:
    """Of a query that jq has found well-formed. Raises Unsure where more is in it than is understood here."""

    def __init__(self, query: str, names: Sequence[str]) -> None:
        self._query = query
        self._names = names
        self._at = 0

    def whole(self) -> Term:
        term = self._pipe()
        self._must(r"\s*\Z")
        return term

    def _take(self, what: str) -> re.Match[str] | None:
        match = re.compile(what).match(self._query, self._at)
        self._at = match.end() if match else self._at
        return match

    def _must(self, what: str) -> re.Match[str]:
        if (match := self._take(what)) is None:
            raise Unsure
        return match

    def _pipe(self) -> Term:
        term = self._either()
        while self._take(r"\s*\|"):
            term = self._parts(term) if self._take(_WHAT_CAME) else _then(self._function(), term)
        return term

    def _either(self) -> Term:
        first = self._sum()
        if not self._take(r"\s*//"):
            return first
        second = self._either()
        return lambda row: made if (made := first(row)) is not None else second(row)

    def _sum(self) -> Term:
        terms = [self._term()]
        while self._take(r"\s*\+"):
            terms.append(self._term())
        return _joined(terms) if terms[1:] else terms[0]

    def _term(self) -> Term:
        if path := self._take(_PATH):
            term = self._path(path[1])
        elif self._take(r'\s*"'):
            term = self._string()
        else:
            self._must(r"\s*\(")
            term = self._pipe()
            self._must(r"\s*\)")
        return self._parts(term)

    def _parts(self, term: Term) -> Term:
        while part := self._take(_PART):
            cut = slice(*(int(end) if end else None for end in part.groups()))
            term = _then(of_text(itemgetter(cut)), term)
        return term

    def _path(self, path: str) -> Term:
        first, *rest = (name[1] or _said(name[2]) for name in re.finditer(_NAME, path))
        if first not in self._names:
            raise Unsure
        place = self._names.index(first)
        if rest:
            return lambda row: _value(row[place], rest)
        return lambda row: one if isinstance(one := row[place], str) else _value(one, ())

    def _string(self) -> Term:
        terms: list[Term] = []
        while True:
            chunk = self._must(_CHUNK)
            terms.append(partial(_constant, _said(chunk[1])))
            if chunk[2] == '"':
                return _joined(terms)
            terms.append(self._pipe())
            self._must(r"\s*\)")

    def _function(self) -> Function:
        name, given = self._must(r"\s*([a-z_]+)")[1], list[str]()
        while self._take(r"\s*;" if given else r"\s*\("):
            given.append(_said(self._must(_STRING)[1]))
        if given:
            self._must(r"\s*\)")
        if (name, len(given)) not in FUNCTIONS:
            raise Unsure
        return FUNCTIONS[name, len(given)](*given)


def _said(literal: str) -> str:
    return msgspec.json.decode(f'"{literal}"', type=str)


def _constant(text: str, _: Row) -> str:
    return text


def _joined(terms: Sequence[Term]) -> Term:
    def joined(row: Row) -> str:
        try:
            return "".join([term(row) for term in terms])
        except TypeError:
            raise Unsure from None  # what is no text

    return joined


def _then(function: Function, term: Term) -> Term:
    return lambda row: function(term(row))


def _value(written: str | bytes, names: Sequence[str]) -> Any:
    """What the names lead to."""
    reached = walked(written, names) if isinstance(written, bytes) else None
    if reached == NULL_TEXT:
        return None
    if isinstance(reached, bytes) and reached.startswith(b'"'):
        return text_of(reached)
    if isinstance(reached, bytes) and reached.isdigit() and len(reached) <= NUMBER_DIGITS:
        return int(reached)
    raise Unsure
