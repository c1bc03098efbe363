"""Sites to put destinations to work at in tests, and a disk that fails when it is told to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
from virtual_time import Inline

from firehose.buffer.disk import LocalDisk
from firehose.contracts import Disk, Writer
from firehose.registry import Site
from firehose.runtime import Runtime, Threads

Step = Literal["make_folder", "create", "write", "sync", "rename", "renamed"]


def site(
    threads: Threads,
    disk: Disk | None = None,
    *,
    destination: str = "far",
    purpose: Literal["data", "errors"] = "data",
    runtime: Runtime | None = None,
) -> Site:
    return Site("app", destination, purpose, "us-east-1", disk or LocalDisk(), threads, runtime or Runtime())


def schema_site(root: Path, disk: Disk | None = None, runtime: Runtime | None = None) -> Site:
    """A site that keeps the versions of its schema below `root`."""
    return replace(site(Inline(), disk, runtime=runtime), schemas=str(root / "schemas" / "app" / "far"))


class FlakyDisk(LocalDisk):
    """The real disk; each entry of `faults` makes one such step fail. `renamed` fails when it is done."""

    def __init__(self) -> None:
        self.faults: list[tuple[Step, int]] = []

    def make_folder(self, path: str) -> None:
        self._step("make_folder", path)
        super().make_folder(path)

    def create(self, path: str) -> Writer:
        self._step("create", path)
        return _FlakyWriter(super().create(path), self, path)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", target)
        super().rename(source, target)
        self._step("renamed", target)

    def _step(self, step: Step, path: str) -> None:
        if self.faults and self.faults[0][0] == step:
            _, number = self.faults.pop(0)
            raise OSError(number, os.strerror(number), path)


class _FlakyWriter:
    def __init__(self, writer: Writer, disk: FlakyDisk, path: str) -> None:
        self._writer = writer
        self._disk = disk
        self._path = path

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        size = self._writer.write(*chunks)
        self._disk._step("write", self._path)
        return size

    def sync(self) -> None:
        self._disk._step("sync", self._path)
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()
