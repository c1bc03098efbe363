"""What of a record a jq query looks at, as far as its text alone can tell for certain.

A query that reads `.customer` alone gives the same for every record with the same `customer`: it is run once for all of
them, on a document of that one field. That is several times as fast as jq on whole records. What is not understood here
is no harm: such a query gets whole records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

# Of a string: up to its end, or to an expression inside. What jq takes in one and JSON does not is not understood.
_PLAIN = r'(?:[^"\\\x00-\x1f]|\\[^(])*'
_STRING = rf'"{_PLAIN}"'
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<field>\.(?:[A-Za-z_]\w*|{_STRING}|\[\s*{_STRING}\s*\]))
    | (?P<literal>{_STRING}|\d+(?:\.\d+)?)
    | (?P<inside>"{_PLAIN}\\\()
    | (?P<word>[@$]?[A-Za-z_][\w:]*)
    | (?P<sign>\?//|//|==|!=|<=|>=|\.\.|[-+*/%|<>(),:;?.{{}}\[\]](?!=))
    )""",
    re.VERBOSE,
)
_INSIDE = re.compile(rf"""{_PLAIN}(?P<end>\\\(|")""")  # of a string, behind an expression
_PART = re.compile(r"\[(\d+):(\d*)\]\s*$")
_OPEN, _CLOSE = {"(", "[", "{", "if"}, {")", "]", "}", "end"}
_ANEW = {"then", "elif", "else"}  # parts of an `if`, which all begin with what it began with
# Words that look at nothing by themselves.
_HARMLESS = {
    "if",
    *_ANEW,
    "end",
    "and",
    "or",
    "true",
    "false",
    "null",
    "empty",
}
# Those, and functions that take no longer and make no more than what they are given.
_QUICK = {
    *_HARMLESS,
    "not",
    "length",
    "type",
    "has",
    "contains",
    "startswith",
    "endswith",
    "ascii_downcase",
    "ascii_upcase",
    "tostring",
    "tonumber",
    "select",
    "any",
    "all",
}
_GROWING = {"+", "*", ",", "..", "?//"}  # signs that make more of what they are given; so does `[]`
_OF_THE_WHOLE = {".", "..", "{", ";", "?//"}  # these say more of the record than its fields do


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def path(query: str) -> tuple[tuple[str, ...], slice | None] | None:
    """The names, where the query is nothing but a way to one value, such as `.user.id`, or to a part of a text, such as
    `.time[0:10]`.
    """
    way, part = query, None
    if match := _PART.search(query):
        way, part = query[: match.start()], slice(*(int(end) if end else None for end in match.groups()))
    tokens = list(_tokens(way))
    plain = bool(tokens) and all(token.kind == "field" for token in tokens)
    return (tuple(_name(token) for token in tokens), part) if plain else None


def fields(query: str) -> tuple[str, ...] | None:
    """The record's own fields of which alone the query makes its outputs, in order; None where that is not certain.

    A pipe hands on what is left of it: behind one, in the same pair of brackets, nothing sees the record any more.
    """
    found: dict[str, None] = {}
    outer: list[tuple[bool, str]] = []  # of each bracket around: whether it began with the record, and its last part
    record, before = True, ""
    for token in _tokens(query):
        if token.text in _OPEN:
            outer.append((record, token.text))
        elif token.text in _ANEW and outer:
            record = outer[-1][0]
            outer[-1] = record, token.text
        elif token.text in _CLOSE and outer:
            record, part = outer.pop()
            if record and token.text == "end" and part != "else":
                return None  # it may yield what it was given
        if token.text == "|":
            record = False
        elif record and not _harmless(token):
            return None
        elif token.kind == "field" and not _ends_a_term(before):
            found[_name(token)] = None
        before = token.text
    return tuple(sorted(found)) if found and not outer else None


def is_quick(query: str) -> bool:
    """Whether it can neither loop nor grow what it is given, as far as its text alone can tell for certain."""
    before = ""
    for token in _tokens(query):
        if token.kind in ("other", "inside") or token.text in _GROWING:
            return False
        if token.kind == "word" and token.text not in _QUICK:
            return False
        if before == "[" and token.text == "]":
            return False
        before = token.text
    return True


def _harmless(token: _Token) -> bool:
    if token.kind == "word":
        return token.text in _HARMLESS
    return token.text not in _OF_THE_WHOLE and token.kind != "other"


def _ends_a_term(text: str) -> bool:
    return text.startswith(".") or text in (")", "]", "?")


def _tokens(query: str) -> Iterator[_Token]:
    """An expression inside a string stands in brackets of the kind `inside`, and what is around it is left out."""
    end = 0
    depths: list[int] = []  # of each string around, how many brackets are open in its expression
    while match := _TOKEN.match(query, end):
        assert match.lastgroup is not None
        token = _Token(match.lastgroup, match[match.lastgroup])
        end = match.end()
        if token.kind == "inside":
            depths.append(0)
            token = _Token("inside", "(")
        elif depths and token.text == ")" and depths[-1] == 0:
            rest = _INSIDE.match(query, end)
            if rest is None:
                break
            end = rest.end()
            yield _Token("inside", ")")
            if rest["end"] == '"':
                depths.pop()
                continue
            token = _Token("inside", "(")
        elif depths:
            depths[-1] += {"(": 1, ")": -1}.get(token.text, 0)
        yield token
    if depths or query[end:].strip():
        yield _Token("other", query[end:])


def _name(token: _Token) -> str:
    bare = token.text.lstrip(".").strip().strip("[]").strip()
    return msgspec.json.decode(bare, type=str) if bare.startswith('"') else bare
