"""The note of a batch's memo that says which version of its schema it follows. Other notes there belong to others."""

from __future__ import annotations

import json

from firehose.contracts import Memo


def noted(memo: Memo) -> int | None:
    """The version that was noted last; None where none was."""
    for note in reversed(memo.read()):
        if (number := _number(note)) is not None:
            return number
    return None


def note(memo: Memo, number: int) -> None:
    """Durable when it returns. Raises `Retry` where the disk fails."""
    memo.write(json.dumps({"schema": number}))


def _number(note: str) -> int | None:
    try:
        said = json.loads(note)
    except ValueError:
        return None
    number = said.get("schema") if isinstance(said, dict) else None
    return number if isinstance(number, int) else None
