"""Schemas that are given, in the definition or in a file, and what of them is kept."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from batches import Notes, batch
from sites import FlakyDisk, Step, schema_site

from firehose.contracts import Retry
from firehose.deserializers import Hive
from firehose.schemas.options import SchemaBlock, made
from firehose.schemas.source import SchemaSource
from firehose.schemas.versions import Versions

BATCH = batch([b"{}"])


def source(root: Path, disk: FlakyDisk | None = None, **keys: Any) -> SchemaSource:
    """Put to work anew, as after a reload or a restart."""
    return made(SchemaBlock.model_validate(keys or {"file": str(root / "t.sql")}), schema_site(root, disk))


def write(root: Path, columns: str) -> None:
    (root / "t.sql").write_text(f"CREATE TABLE t ({columns})")


def follows(of: SchemaSource, memo: Notes | None = None) -> dict[str, str]:
    return of.of(BATCH, Notes() if memo is None else memo).schema.types()


def test_in_the_definition(tmp_path: Path) -> None:
    """Columns of the definition follow its versions: nothing is kept, noted or set down for them."""
    memo = Notes()
    given = source(tmp_path, columns={"b": "int", "a": "array<date>"})
    given.check()
    version = given.of(BATCH, memo)
    assert (version.number, version.schema.types()) == (1, {"b": "int", "a": "array<date>"})
    assert (given.grows, given.catalog_table, given.document(version)) == (False, None, None)
    given.close()
    assert memo.written == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes(tmp_path: Path) -> None:
    """It is taken up when everything is put to work anew, by the batches that begin then."""
    write(tmp_path, "a int")
    under_way, one = Notes(), source(tmp_path)
    assert follows(one, under_way) == {"a": "int"}
    write(tmp_path, "a int, b int")
    assert follows(one) == {"a": "int"}
    other = source(tmp_path)
    assert follows(other) == {"a": "int", "b": "int"}
    assert follows(other, under_way) == {"a": "int"}
    assert (other.grows, other.catalog_table) == (False, None)


def test_a_file_that_goes(tmp_path: Path) -> None:
    """Batches that began go on; others wait, told which file is missing, and go on once it is back."""
    under_way = Notes()
    write(tmp_path, "a int")
    follows(source(tmp_path), under_way)
    (tmp_path / "t.sql").unlink()
    one = source(tmp_path)
    for call in (lambda: follows(one), one.check):
        with pytest.raises(Retry, match=r"t\.sql cannot be read: No such file.*; mend the file"):
            call()
    assert follows(one, under_way) == {"a": "int"}
    write(tmp_path, "a text")
    with pytest.raises(Retry, match="line 1: column 'a': invalid type 'text'"):
        follows(one)
    write(tmp_path, "a string")
    assert follows(one) == {"a": "string"}


def test_two_definitions(tmp_path: Path) -> None:
    """Two versions of a stream's definition that name different files follow each its own, however they alternate, and
    keep one version for each.
    """
    write(tmp_path, "a int")
    (tmp_path / "u.sql").write_text("CREATE TABLE u (b int)")
    one, other = source(tmp_path), source(tmp_path, file=str(tmp_path / "u.sql"))
    for _ in range(3):
        assert follows(one) == {"a": "int"}
        assert follows(other) == {"b": "int"}
    assert Versions(FlakyDisk(), schema_site(tmp_path).schemas).numbers() == [1, 2]


def test_pinned(tmp_path: Path) -> None:
    """Where a version is pinned, batches follow that one, whatever the file says, until it is pinned no more."""
    versions = Versions(FlakyDisk(), schema_site(tmp_path).schemas)
    write(tmp_path, "a int")
    follows(source(tmp_path))
    write(tmp_path, "a int, b int")
    one, memo = source(tmp_path), Notes()
    follows(one)
    versions.pin(1)
    assert follows(one, memo) == {"a": "int"}
    versions.pin(None)
    assert follows(one) == {"a": "int", "b": "int"}
    assert follows(one, memo) == {"a": "int"}


@pytest.mark.parametrize("step", ["make_folder", "create", "write", "sync"])
def test_a_disk_that_fails(tmp_path: Path, step: Step) -> None:
    """A version that cannot be kept is followed by no batch: it waits, and nothing is noted; then it goes on."""
    write(tmp_path, "a int")
    disk, memo = FlakyDisk(), Notes()
    disk.faults.append((step, errno.ENOSPC))
    one = source(tmp_path, disk)
    with pytest.raises(Retry, match="No space left"):
        follows(one, memo)
    assert memo.written == []
    assert one.of(BATCH, memo).number == 1
    assert memo.written == ['{"schema": 1}']


def test_columns_that_cannot_be_read(tmp_path: Path) -> None:
    """A schema whose columns the deserializer cannot read is followed by no batch: they wait, told what to change, and
    go on once it is mended.
    """
    require, memo = Hive().require, Notes()
    block = SchemaBlock.model_validate({"file": str(tmp_path / "t.sql")})
    write(tmp_path, "`a.b` int")
    told = r"column 'a\.b': the hive deserializer reads no column with a dot.*change it"
    with pytest.raises(Retry, match=told):
        made(block, schema_site(tmp_path), require).of(BATCH, memo)
    with pytest.raises(Retry, match=told):
        made(block, schema_site(tmp_path), require).check()
    assert memo.written == []
    write(tmp_path, "a int")
    assert follows(made(block, schema_site(tmp_path), require), memo) == {"a": "int"}


def test_a_version_of_which_the_folder_is_not_durable(tmp_path: Path) -> None:
    """A version that lies there since an attempt that failed is made durable before a batch is noted to follow it."""
    write(tmp_path, "a int")
    folder = str(tmp_path / "schemas/app/far")
    synced: list[bool] = []

    class Unsure(FlakyDisk):
        def sync_folder(self, path: str) -> None:
            if path == folder:
                synced.append(bool(synced))
                if len(synced) == 1:
                    raise OSError(errno.EIO, "unsure", path)
            super().sync_folder(path)

    memo, one = Notes(), source(tmp_path, Unsure())
    with pytest.raises(Retry, match="unsure"):
        follows(one, memo)
    assert follows(one, memo) == {"a": "int"}
    assert synced == [False, True]


class Forgetful(Notes):
    """A memo whose writing fails once."""

    fails = True

    def write(self, note: str) -> None:
        if self.fails:
            self.fails = False
            raise Retry("the ledger cannot be written")
        super().write(note)


def test_a_note_that_fails(tmp_path: Path) -> None:
    """Where the note is not durable, nothing may be sent; the next attempt follows the newest then, without a second
    version of the same.
    """
    write(tmp_path, "a int")
    memo, one = Forgetful(), source(tmp_path)
    with pytest.raises(Retry, match="the ledger"):
        follows(one, memo)
    assert one.of(BATCH, memo).number == 1


def test_a_version_that_was_lost(tmp_path: Path) -> None:
    """A batch whose version is missing waits, told which file; it never follows another one."""
    write(tmp_path, "a int")
    memo = Notes()
    follows(source(tmp_path), memo)
    (kept,) = (tmp_path / "schemas").rglob("v*.json")
    content = kept.read_bytes()
    kept.unlink()
    with pytest.raises(Retry, match=kept.name):
        follows(source(tmp_path), memo)
    kept.write_bytes(content)
    assert follows(source(tmp_path), memo) == {"a": "int"}
