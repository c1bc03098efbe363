"""Small files that are one JSON object, with a checksum in it: no byte of theirs can change unseen.

`crc` is the CRC-32, in 8 hex digits, of the rest as `json.dumps` writes it, keys in their order. Files of format 1 have
none. `format` and `crc` stay in every later format, so that this release can refuse it by name and not take it for
damage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isal.isal_zlib import crc32

from firehose.model import NewerFormat

FORMAT = 2


def encode(said: Mapping[str, Any], indent: int | None = None) -> bytes:
    """The file's content, which says its format too."""
    whole = {"format": FORMAT, **said}
    return json.dumps({**whole, "crc": _crc(whole)}, indent=indent).encode()


def decode(path: str, content: bytes) -> dict[str, Any]:
    """What the file says. Raises ValueError, TypeError or KeyError where it is damaged, else `NewerFormat`."""
    try:
        said: dict[str, Any] = json.loads(content)
    except UnicodeDecodeError as error:  # it holds all of the content, which may have secrets, and is told in logs
        raise ValueError(f"the byte at offset {error.start} is no text") from None
    crc = said.pop("crc") if said["format"] != 1 else said.get("crc")
    if crc is not None and crc != _crc(said):
        raise ValueError("its checksum is wrong")
    if said["format"] > FORMAT:
        raise NewerFormat(path, said["format"], FORMAT)
    return said


def copy_of(path: str) -> str:
    """Path of the other one, of a file that is kept twice."""
    return f"{path}.copy"


def _crc(said: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(said).encode()):08x}"
