"""How the disks of the tests replace a file: as the real one does, but by their own steps, any of which may fail."""

from __future__ import annotations

import os

from firehose.contracts import Disk


def replace_by_steps(disk: Disk, path: str, content: bytes) -> None:
    beside = f"{path}.new"
    if disk.exists(beside):
        disk.remove(beside)
    writer = disk.create(beside)
    try:
        writer.write(content)
        writer.sync()
    finally:
        writer.close()
    disk.rename(beside, path)
    disk.sync_folder(os.path.dirname(path))
