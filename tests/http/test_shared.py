"""Pieces in memory files: the same bytes, never too many files, and none left behind."""

from __future__ import annotations

import mmap
import os
import resource
from typing import Any

import pytest
from memory_files import memory_files

from firehose.http.shared import SHARED_BYTES, MemoryFiles, SharedPiece, in_memory

LARGE = os.urandom(SHARED_BYTES)


def none_left(*_: Any, **__: Any) -> Any:
    raise OSError(24, "Too many open files")


def test_a_large_piece_lies_in_a_memory_file() -> None:
    """Its bytes are the same, mapped once; a small one stays as it is. With the last who has it the file is gone."""
    files = MemoryFiles()
    piece = files.shared(LARGE)
    assert isinstance(piece, SharedPiece)
    assert len(piece) == SHARED_BYTES
    assert memory_files() == 1
    assert in_memory(piece) == LARGE
    assert in_memory(piece) is in_memory(piece)
    assert files.shared(LARGE[1:]) == LARGE[1:]
    del piece
    assert memory_files() == 0


def test_who_still_has_its_bytes_keeps_them() -> None:
    """Also when the piece itself is gone."""
    found = in_memory(MemoryFiles().shared(LARGE))
    assert bytes(found) == LARGE
    del found
    assert memory_files() == 0


def test_there_are_never_more_than_so_many() -> None:
    """What comes beyond stays as it is, until one of them is gone."""
    files = MemoryFiles(most=2)
    pieces = [files.shared(LARGE) for _ in range(3)]
    assert [isinstance(piece, SharedPiece) for piece in pieces] == [True, True, False]
    del pieces[0]
    assert isinstance(files.shared(LARGE), SharedPiece)


@pytest.mark.parametrize("missing", ["memfd_create", "sendfile"])
def test_a_system_without_them(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the bytes stay as they are."""
    monkeypatch.delattr(os, missing)
    assert MemoryFiles().shared(LARGE) is LARGE


@pytest.mark.parametrize("failing", ["memfd_create", "write"])
def test_no_room_for_one(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor or memory the bytes stay as they are, and no file stays open."""
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, none_left)
        assert MemoryFiles().shared(LARGE) is LARGE
    assert memory_files() == 0


@pytest.mark.parametrize("spare", [True, False])
def test_half_of_the_descriptors_are_for_others(spare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose descriptor is beyond that is given up: connections and the disk cannot do without."""
    lowest = os.dup(0)
    os.close(lowest)
    monkeypatch.setattr(resource, "getrlimit", lambda _: ((lowest + spare) * 2, 1 << 20))
    assert isinstance(MemoryFiles().shared(LARGE), SharedPiece) is spare
    assert memory_files() == 0


def test_half_a_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that did not take all is given up."""
    monkeypatch.setattr(os, "write", lambda descriptor, said: len(said) - 1)
    assert MemoryFiles().shared(LARGE) is LARGE
    assert memory_files() == 0


def test_no_descriptor_to_map_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are copied then."""
    piece = MemoryFiles().shared(LARGE)
    monkeypatch.setattr(mmap, "mmap", none_left)
    assert in_memory(piece) == LARGE
