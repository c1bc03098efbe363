"""jq's functions of one value, as far as it is certain what they make of it. Whatever else is Unsure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

_LITERAL = r"(?:[A-Za-z0-9 :,/_-]|\\\.)*"
_PATTERN = re.compile(rf"{_LITERAL}(?:\.[*+]?)?{_LITERAL}")  # says the same in all dialects
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z")
_FORMAT = re.compile(r"(?:%[YmdHMSjFT]|[A-Za-z0-9 :,/_.-])+")
SEARCHED_CHARACTERS = 100  # a search may take their square

Function = Callable[[Any], Any]


class Unsure(Exception):
    """Only jq knows."""


def of_text(function: Callable[[str], str | int]) -> Function:
    def checked(made: Any) -> str | int:
        if not isinstance(made, str):
            raise Unsure
        return function(made)

    return checked


def _in_case(change: Callable[[str], str]) -> Function:
    def changed(text: str) -> str:
        if not text.isascii():
            raise Unsure
        return change(text)

    return of_text(changed)


def _sub(pattern: str, other: str) -> Function:
    if not _PATTERN.fullmatch(pattern):
        raise Unsure
    search = re.compile(pattern).search

    def replaced(text: str) -> str:
        if len(text) > SEARCHED_CHARACTERS:
            raise Unsure
        found = search(text)
        if found is None:
            return text
        if not found[0]:
            raise Unsure
        return f"{text[: found.start()]}{other}{text[found.end() :]}"

    return of_text(replaced)


def _seconds(text: str) -> int:
    if not _SECOND.fullmatch(text):
        raise Unsure
    try:
        seconds = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise Unsure from None
    if seconds < 0:
        raise Unsure
    return seconds


def _strftime(form: str) -> Function:
    if not _FORMAT.fullmatch(form):
        raise Unsure

    def written(made: Any) -> str:
        if not isinstance(made, int):
            raise Unsure
        return datetime.fromtimestamp(made, UTC).strftime(form)

    return written


# By name and count of arguments, which are texts. Raise Unsure where these are not understood.
FUNCTIONS: Mapping[tuple[str, int], Callable[..., Function]] = {
    ("ascii_downcase", 0): partial(_in_case, str.lower),
    ("ascii_upcase", 0): partial(_in_case, str.upper),
    ("fromdate", 0): partial(of_text, _seconds),
    ("strftime", 1): _strftime,
    ("sub", 2): _sub,
    ("tostring", 0): partial(of_text, str),
}
