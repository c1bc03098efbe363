"""The note of a batch's memo that says which version of its schema it follows: `{"schema": 2, "whole": true}`.

`whole` says that all of the batch went into that version, as far as there is room. Other notes there belong to others.
"""

from __future__ import annotations

import json
from dataclasses import replace

from firehose.contracts import Memo
from firehose.schemas.source import SchemaVersion
from firehose.schemas.versions import Versions


def noted(memo: Memo, versions: Versions) -> SchemaVersion | None:
    """The version that was noted last; None where none was. Raises `Retry` where it cannot be read."""
    for text in reversed(memo.read()):
        if (said := _read(text)) is not None:
            number, whole = said
            return replace(versions.read(number), whole=whole)
    return None


def note(memo: Memo, versions: Versions, version: SchemaVersion) -> SchemaVersion:
    """The version; it and its note are durable when it returns. Raises `Retry` where the disk fails."""
    versions.settle()
    memo.write(json.dumps({"schema": version.number, **({"whole": True} if version.whole else {})}))
    return version


def _read(text: str) -> tuple[int, bool] | None:
    """The number, and whether it is whole; None of a note that is somebody else's."""
    try:
        said = json.loads(text)
    except ValueError:
        return None
    number = said.get("schema") if isinstance(said, dict) else None
    return (number, bool(said.get("whole"))) if isinstance(number, int) else None
