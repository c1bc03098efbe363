"""A third party's destination: a folder that does as its `mood` file says, and ends the process at a deadly record.

Moods: `busy` asks for a retry, `sulky` refuses, `broken` raises something of its own, anything else is good. When it is
`tame` nothing is deadly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from destinations.folder import Folder, FolderOptions
from firehose.contracts import Memo, Refused, Retry
from firehose.model import Batch, Receipt
from firehose.registry import Site
from firehose.stream_config import DestinationBlock

DEADLY = b"deadly"
TABLE: Mapping[str, str] = {"moody": "moody:Moody"}


class MoodyOptions(FolderOptions):
    type: Literal["moody"] = "moody"  # type: ignore[assignment]


class Moody(Folder):
    Options: ClassVar[type[DestinationBlock]] = MoodyOptions

    def __init__(self, options: MoodyOptions, site: Site) -> None:
        super().__init__(options, site)
        self._mood = Path(options.path).with_suffix(".mood")

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        print("moody speaks on standard output, as third parties do")
        mood = self._mood.read_text() if self._mood.exists() else ""
        for rows in batch.slices():
            if mood != "tame" and any(DEADLY in record for record in rows.column("record").to_pylist()):
                os._exit(9)
        if mood == "busy":
            raise Retry("moody is busy")
        if mood == "sulky":
            raise Refused("moody does not like it")
        if mood == "broken":
            raise LookupError("moody has a bug")
        return await super().deliver(batch, memo)


def block(root: Path, **more: Any) -> dict[str, Any]:
    """A destination block; the mood lies beside the folder, in `out.mood`."""
    return {"type": "moody", "path": str(root / "out"), **more}


def feel(root: Path, mood: str) -> None:
    (root / "out.mood").write_text(mood)


def delivered(root: Path) -> list[str]:
    """All records delivered, sorted."""
    files = (one for one in (root / "out").rglob("*") if one.is_file() and ".partial" not in one.parts)
    return sorted(line for file in files for line in file.read_text().splitlines())
