"""What makes a user's jq query fit to be run on records, and what is said of one that is not."""

from __future__ import annotations

from functools import lru_cache

import jq

# The query's own `halt_error` would end the record as if nothing had been wrong with it. The query has a line of its
# own, where whatever it ends with, such as a comment, ends.
SAFELY = "def halt_error: error; def halt_error($code): error; (\n{query}\n) | {ending}"
SAID_CHARACTERS = 1000
REMEMBERED = 128  # queries: to compile one takes milliseconds, and each look at a definition asks again


def wrapped(query: str, ending: str) -> str:
    """The query's program, each of whose outputs goes through `ending`."""
    return SAFELY.replace("{ending}", ending).replace("{query}", query)


@lru_cache(maxsize=REMEMBERED)
def checked(query: str, ending: str) -> str:
    """The query. Raises ValueError with jq's own complaint where it does not compile."""
    if "\0" in query:
        raise ValueError("the query holds a NUL character; remove it")
    try:
        jq.compile(query)  # alone first: places in the complaint are then the query's own
        jq.compile(wrapped(query, ending))
    except ValueError as error:
        raise ValueError(f"invalid jq: {_complaint(str(error))}") from None
    return query


def failure(error: ValueError) -> str:
    """What jq says of a record that the query failed at. It may quote the whole record, in text that is no Unicode."""
    return str(error).encode("utf-8", "replace").decode()[:SAID_CHARACTERS] or "an error without words"


def _complaint(said: str) -> str:
    """jq's first error in one line: what is wrong, and where."""
    first = said.removeprefix("jq: error: ").partition("\n")[0]
    return first.replace(" at <top-level>, line", " at line").rstrip(":")
