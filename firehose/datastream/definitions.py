"""The definitions of all data streams on disk: one file each, replaced as a whole, durable before it is told.

    <data_dir>/datastreams/<id>/stream     a JSON object, see `checked_json`
                                buffer/    the shards' records, see `log`
    <data_dir>/datastreams/account         settings that are no stream's

A stream exists from the first `stream` file on, and is gone with it; a folder without one is what a crash left of a
stream's beginning or end, and is removed. Everything here blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from firehose import checked_json
from firehose.contracts import Disk
from firehose.datastream.lineage import Step
from firehose.datastream.model import Definition

STREAM, RECORDS, ACCOUNT = "stream", "buffer", "account"
ID = re.compile(r"[a-zA-Z0-9_.-]+-\d{8}T\d{6}-[0-9a-f]+")  # as `LiveStreams` draws them; no other is touched


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of a stream. `steps` are what it does to its shards while it is CREATING or UPDATING."""

    definition: Definition
    steps: tuple[Step, ...] = ()
    trimmed_ms: int = 0  # what arrived before has expired, whatever the retention is now


class Definitions:
    """The folder of all data streams."""

    def __init__(self, disk: Disk, data_dir: str, report: Callable[[str], None]) -> None:
        self._disk = disk
        self._root = os.path.join(data_dir, "datastreams")
        self._report = report

    def folder(self, id: str) -> str:
        return os.path.join(self._root, id)

    def read(self) -> Iterator[Kept]:
        """Every stream. A damaged file is reported, and its stream left alone. Raises `NewerFormat`, OSError."""
        for name in self._disk.list(self._root):
            if not ID.fullmatch(name):
                continue
            path = os.path.join(self._root, name, STREAM)
            if not self._disk.exists(path):
                self._clear(name)
            elif kept := self._kept(path, name):
                yield kept

    def write(self, kept: Kept) -> None:
        """Durable when it returns."""
        folder = self.folder(kept.definition.id)
        self._disk.make_folder(folder)
        self._disk.replace(os.path.join(folder, STREAM), checked_json.encode(asdict(kept)))

    def remove(self, id: str) -> None:
        """The stream is gone when it returns. Its records are to be gone before."""
        folder = self.folder(id)
        path = os.path.join(folder, STREAM)
        if self._disk.exists(path):
            self._disk.remove(path)
            self._disk.sync_folder(folder)
        self._clear(id)

    def account(self) -> dict[str, Any]:
        """Settings of the account; none where nobody made any, or the file is damaged."""
        path = os.path.join(self._root, ACCOUNT)
        if not self._disk.exists(path):
            return {}
        try:
            settings: dict[str, Any] = checked_json.decode(path, self._disk.read(path))["settings"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._report(f"{path} cannot be understood: {error!r}; the account has its first settings")
            return {}
        return settings

    def write_account(self, settings: dict[str, Any]) -> None:
        self._disk.make_folder(self._root)
        self._disk.replace(os.path.join(self._root, ACCOUNT), checked_json.encode({"settings": settings}))

    def _kept(self, path: str, id: str) -> Kept | None:
        try:
            kept = msgspec.convert(checked_json.decode(path, self._disk.read(path)), Kept)
            if kept.definition.id != id:
                raise ValueError(f"it is the file of {kept.definition.id}")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._report(f"{path} cannot be understood: {error!r}; its stream is left as it is, and not served")
            return None
        return kept

    def _clear(self, id: str) -> None:
        """Removes the folder, unless it holds anything but what a crash leaves of a stream's beginning or end."""
        folder = self.folder(id)
        beside, records = os.path.join(folder, f"{STREAM}.new"), os.path.join(folder, RECORDS)
        if self._disk.exists(beside):
            self._disk.remove(beside)
        if self._disk.exists(records) and not self._disk.list(records):
            self._disk.remove_folder(records)
        left = self._disk.list(folder)
        if left:
            self._report(f"{folder} has no definition of a stream, but {', '.join(left)}; it is left as it is")
            return
        self._disk.remove_folder(folder)
        self._disk.sync_folder(self._root)
