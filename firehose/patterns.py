"""Regular expressions that users write: RE2's, whose time is linear in the text. Python's own could hang a delivery.

What is wrong with one is told with its place, in words for whoever wrote it.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

NO_TEXT = pa.array([""])  # of no text at all an expression is not even read


def check(pattern: str) -> None:
    """Raises ValueError where the pattern is none."""
    try:
        pc.match_substring_regex(NO_TEXT, pattern)
    except pa.ArrowInvalid as error:
        # RE2 says what is wrong, and then the part that is.
        _, _, said = str(error).partition(": ")
        problem, _, part = said.partition(": ")
        at = max(0, pattern.find(part))
        raise ValueError(
            f"is no regular expression (RE2): {problem} at character {at + 1}: '{pattern[at:][:40]}'"
        ) from None


def group_names(pattern: str) -> tuple[str, ...]:
    """The names of a pattern's groups, in order. Raises ValueError where it is none, or does not name its groups."""
    check(pattern)
    try:
        names = tuple(field.name for field in pc.extract_regex(NO_TEXT, pattern).type)
    except pa.ArrowInvalid:
        at = _unnamed(pattern)
        raise ValueError(
            f"has a group without a name at character {at + 1}: '{pattern[at:][:40]}'; "
            "write (?P<name>...), or (?:...) where you do not want the value"
        ) from None
    if not names:
        raise ValueError("has no named group, so that nothing would come of it; write (?P<name>...) around a value")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        at = pattern.rfind(f"<{twice[0]}>")
        raise ValueError(f"has two groups named '{twice[0]}', the second at character {at + 1}; give each its own name")
    return names


def _unnamed(pattern: str) -> int:
    """Where the first group without a name begins: a parenthesis, not quoted, in no class, with no `?` behind it."""
    at, in_class = 0, False
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            at += 1
        elif in_class or sign == "[":
            in_class = sign != "]"
        elif sign == "(" and pattern[at + 1 : at + 2] != "?":
            return at
        at += 1
    return 0


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text."""
    found: bool = pc.match_substring_regex(pa.array([text]), pattern)[0].as_py()
    return found
