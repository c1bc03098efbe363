"""The definitions of all data streams on disk: one file each, replaced as a whole, durable before it is told, and kept
twice, for without it no record of the stream can be read.

    <data_dir>/datastreams/<id>/stream     a JSON object, see `checked_json`
                                buffer/    the shards' records, see `log`
    <data_dir>/datastreams/account         settings that are no stream's
    either with .copy                      the same once more: what is damaged is replaced by the other

A stream exists from the first `stream` file on, and is gone with it; a folder without one is what a crash left of a
stream's beginning or end, and is removed. Everything here blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from firehose import checked_json
from firehose.contracts import Disk
from firehose.datastream.lineage import Step
from firehose.datastream.model import Definition

STREAM, RECORDS, ACCOUNT = "stream", "buffer", "account"
COPY = checked_json.copy_of(STREAM)
LEFT_OVER = {COPY, f"{STREAM}.new", f"{COPY}.new"}  # by a beginning or an end
T = TypeVar("T")
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
        """Every stream. A damaged file is reported; where both are, the stream is left alone. Raises `NewerFormat`,
        OSError.
        """
        for name in self._disk.list(self._root):
            if not ID.fullmatch(name):
                continue
            path = os.path.join(self._root, name, STREAM)
            if not self._disk.exists(path):
                self._clear(name)
            elif kept := self._read(path, partial(_kept, name), "its stream is left as it is, and not served"):
                yield kept

    def write(self, kept: Kept) -> None:
        """Durable when it returns."""
        folder = self.folder(kept.definition.id)
        self._disk.make_folder(folder)
        self._write(os.path.join(folder, STREAM), asdict(kept))

    def remove(self, id: str) -> None:
        """The stream is gone when it returns. Its records are to be gone before."""
        folder = self.folder(id)
        path = os.path.join(folder, STREAM)
        if self._disk.exists(path):
            self._disk.remove(path)
            self._disk.sync_folder(folder)
        self._clear(id)

    def account(self) -> dict[str, Any]:
        """Settings of the account; none where nobody made any, or both files are damaged."""
        path = os.path.join(self._root, ACCOUNT)
        if not self._disk.exists(path):
            return {}
        return self._read(path, _settings, "the account has its first settings") or {}

    def write_account(self, settings: dict[str, Any]) -> None:
        self._disk.make_folder(self._root)
        self._write(os.path.join(self._root, ACCOUNT), {"settings": settings})

    def _write(self, path: str, said: Mapping[str, Any]) -> None:
        content = checked_json.encode(said)
        for one in (checked_json.copy_of(path), path):  # in this order: a stream exists with its file
            self._disk.replace(one, content)

    def _read(self, path: str, meaning: Callable[[dict[str, Any]], T], without: str) -> T | None:
        """What the file says, or else its copy. None where neither can be understood, and `without` says what then."""
        found: list[tuple[bytes, T]] = []
        there = {one: self._disk.read(one) for one in (path, checked_json.copy_of(path)) if self._disk.exists(one)}
        for one, content in there.items():
            try:
                found.append((content, meaning(checked_json.decode(one, content))))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                self._report(f"{one}: damaged, cannot be understood: {error!r}")
        if not found:
            self._report(f"{path} and its copy are damaged; {without}")
            return None
        content, said = found[0]
        for one in (path, checked_json.copy_of(path)):
            if there.get(one) != content:
                self._put_right(one, content)
        return said

    def _put_right(self, path: str, content: bytes) -> None:
        try:
            self._disk.replace(path, content)
        except OSError as error:  # the other one will do until the next start
            self._report(f"{path} cannot be replaced by its copy: {error}")

    def _clear(self, id: str) -> None:
        """Removes the folder, unless it holds anything but what a crash leaves of a stream's beginning or end."""
        folder = self.folder(id)
        records, names = os.path.join(folder, RECORDS), set(self._disk.list(folder))
        if RECORDS in names and not self._disk.list(records):
            self._disk.remove_folder(records)
            names.remove(RECORDS)
        if strange := names - LEFT_OVER:
            self._report(
                f"{folder} has no definition of a stream, but {', '.join(sorted(strange))}; it is left as it is"
            )
            return
        for name in names:
            self._disk.remove(os.path.join(folder, name))
        self._disk.remove_folder(folder)
        self._disk.sync_folder(self._root)


def _kept(id: str, said: dict[str, Any]) -> Kept:
    kept = msgspec.convert(said, Kept)
    if kept.definition.id != id:
        raise ValueError(f"it is the file of {kept.definition.id}")
    return kept


def _settings(said: dict[str, Any]) -> dict[str, Any]:
    return msgspec.convert(said["settings"], dict[str, Any])
