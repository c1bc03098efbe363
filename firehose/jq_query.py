"""What makes a user's jq query fit to be run on records, and what is said of one that is not."""

from __future__ import annotations

import jq

# The query's own `halt_error` would end the record as if nothing had been wrong with it. The query has a line of its
# own, where whatever it ends with, such as a comment, ends.
SAFELY = "def halt_error: error; def halt_error($code): error; (\n{query}\n) | {ending}"


def wrapped(query: str, ending: str) -> str:
    """The query's program, each of whose outputs goes through `ending`."""
    return SAFELY.replace("{ending}", ending).replace("{query}", query)


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


def _complaint(said: str) -> str:
    """jq's first error in one line: what is wrong, and where."""
    first = said.removeprefix("jq: error: ").partition("\n")[0]
    return first.replace(" at <top-level>, line", " at line").rstrip(":")
