"""Files of columns at the far side: what lies there, in which order it came, and what never lies there."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from batches import Notes, batch
from columns import BAD, COLUMNS, GOOD
from s3_server import KEYS, Answer, S3Server, running
from sites import FlakyDisk, site

from destinations.folder import Folder, FolderOptions
from destinations.s3 import S3, S3Options
from firehose.contracts import Retry
from firehose.model import Receipt
from firehose.runtime import Runtime, Threads

GIVEN = {"type": "parquet", "schema": {"columns": COLUMNS}}
INFERRED = {"type": "parquet", "compression": "none", "dictionary": False, "row_group_mib": 1}
WIDER = [b'{"n":4,"more":true}']


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


class Shore:
    """A folder, and a bucket, with the versions of their schemas."""

    def __init__(self, root: Path, server: S3Server, threads: Threads) -> None:
        self.lake = root / "lake"
        self.disk = FlakyDisk()
        self.server = server
        self.bucket = server.new_bucket()
        self._site = replace(site(threads, self.disk), schemas=str(root / "schemas"))

    def folder(self, format: dict[str, Any], name: str = "folder", **keys: Any) -> Folder:
        block = {"path": str(self.lake), "prefix": "app/dt=!{timestamp:yyyy}/", "format": format, **keys}
        at = replace(self._site, destination=name, schemas=f"{self._site.schemas}/{name}")
        return Folder(FolderOptions.model_validate(block), at)

    def s3(self, format: dict[str, Any], **keys: Any) -> S3:
        block = {"bucket": self.bucket, "endpoint_url": self.server.url, "format": format, "prefix": "app/", **keys}
        sizes = {"multipart_threshold_mib": 5, "part_size_mib": 5}
        return S3(S3Options.model_validate({**block, **sizes, **KEYS}), self._site)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.lake)) for path in self.lake.rglob("*") if path.is_file())

    def objects(self) -> list[str]:
        return sorted(self.server.objects(self.bucket))


@pytest.fixture
def shore(tmp_path: Path, server: S3Server, threads: Threads) -> Shore:
    return Shore(tmp_path, server, threads)


async def deliver(to: Folder | S3, records: Sequence[bytes], first: int = 0, memo: Notes | None = None) -> Receipt:
    return await to.deliver(batch(records, first=first, rows_per_slice=500), memo or Notes())


def many(count: int) -> list[bytes]:
    """Records of which a Parquet file is no smaller."""
    dice = Random(7)
    return [b'{"n":%d,"word":"%s"}' % (n, dice.randbytes(500).hex().encode()) for n in range(count)]


async def test_a_file_of_the_good_rows_and_a_receipt_of_the_others(shore: Shore) -> None:
    """What converts is an object with the format's extension; the receipt names what does not, and says the rest."""
    for to in (shore.folder(GIVEN), shore.s3(GIVEN)):
        receipt = await deliver(to, [*GOOD, BAD])
        (name,) = receipt.objects
        assert name.endswith(".parquet")
        assert receipt.refused.table.column("row").to_pylist() == [3]
    assert receipt.sent_bytes == len(shore.server.read(shore.bucket, name)["Body"].read())
    assert pq.read_table(shore.lake / shore.files()[0]).column("n").to_pylist() == [1, 2, 3]


async def test_no_row_no_object(shore: Shore) -> None:
    """Where no record converts nothing is stored at all, and every one is refused."""
    for to in (shore.folder(GIVEN), shore.s3(GIVEN)):
        receipt = await deliver(to, [BAD, BAD])
        assert (receipt.objects, receipt.sent_bytes, len(receipt.refused)) == ((), 0, 2)
    assert shore.objects() == []
    assert not shore.lake.exists()


async def test_no_encoding_is_told(shore: Shore) -> None:
    """A Parquet object says nothing of a Content-Encoding: nothing undoes a compression that is inside."""
    receipt = await deliver(shore.s3(GIVEN), GOOD)
    assert "ContentEncoding" not in shore.server.read(shore.bucket, receipt.objects[0])


async def test_each_version_of_a_schema_lies_beside_the_data(shore: Shore) -> None:
    """Before the first object that follows a version its document is there, once; all the objects read together."""
    folder = shore.folder(INFERRED)
    for number, records in enumerate((GOOD, GOOD, WIDER, GOOD)):
        await deliver(folder, records, first=10 * number)
    schemas = ["app/_schemas/app-v0001.json", "app/_schemas/app-v0002.json"]
    assert [name for name in shore.files() if "_schemas" in name] == schemas
    assert list(json.loads((shore.lake / schemas[1]).read_text())["columns"]) == ["n", "word", "more"]
    with duckdb.connect() as database:
        asked = "select count(*), sum(n), count(more) from read_parquet(?, union_by_name = true)"
        assert database.execute(asked, [str(shore.lake / "app/dt=*/*.parquet")]).fetchone() == (10, 22, 1)


async def test_two_destinations_in_one_place_have_each_their_schemas(shore: Shore) -> None:
    """What one has inferred never takes the place of what the other has, also where only one of them has a name."""
    await deliver(shore.folder(INFERRED), GOOD)
    await deliver(shore.folder(INFERRED, name="mine"), WIDER)
    kept = {name: shore.lake.joinpath(name).read_text() for name in shore.files() if "_schemas" in name}
    columns = {name: list(json.loads(text)["columns"]) for name, text in kept.items()}
    assert columns == {"app/_schemas/app-v0001.json": ["n", "word"], "app/_schemas/mine/app-v0001.json": ["n", "more"]}


async def test_objects_side_by_side_bring_the_same_document(tmp_path: Path, threads: Threads) -> None:
    """Cuts of one segment begin together: none of them fails since another is writing the version's document too."""
    together = threading.Barrier(2, timeout=300)

    class MeetingDisk(FlakyDisk):
        def rename(self, source: str, target: str) -> None:
            if "_schemas" in target and str(tmp_path / "lake") in target:
                together.wait()
            super().rename(source, target)

    at = replace(site(threads, MeetingDisk()), schemas=str(tmp_path / "schemas"))
    folder = Folder(FolderOptions.model_validate({"path": str(tmp_path / "lake"), "format": INFERRED}), at)
    receipts = await asyncio.gather(*(deliver(folder, GOOD, first=first) for first in (0, 10)))
    names = [name for receipt in receipts for name in receipt.objects]
    found = [str(path.relative_to(tmp_path / "lake")) for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    assert sorted(found) == sorted([*names, "_schemas/far/app-v0001.json"])


async def test_a_document_is_sent_without_the_condition_of_data(shore: Shore) -> None:
    """Data has its name once; what stands beside it is replaced, since every start may write it again."""
    for _ in range(2):
        await deliver(shore.s3(INFERRED), GOOD)
    puts = [request for request in shore.server.requests if request.operation == "put" and shore.bucket in request.path]
    told = [("_schemas" in request.path, "if-none-match" in request.headers) for request in puts]
    assert told == [(True, False), (False, True)] * 2
    assert len(shore.objects()) == 2


async def test_no_data_without_its_document(shore: Shore) -> None:
    """While the document cannot be stored neither is the data, and the delivery is one to be tried again."""
    s3 = shore.s3(INFERRED)
    shore.server.script.append(("put", Answer(503, "SlowDown")))
    memo = Notes()
    with pytest.raises(Retry, match="SlowDown"):
        await deliver(s3, GOOD, memo=memo)
    assert shore.objects() == []
    await deliver(s3, GOOD, memo=memo)
    assert len(shore.objects()) == 2


async def test_a_schema_that_grows_in_the_middle_of_an_upload(shore: Shore) -> None:
    """The upload is aborted and begun again with the wider schema, at once: the object has every row, nothing is left,
    and the notes of uploads and of schemas do not disturb each other.
    """
    s3 = shore.s3(INFERRED)
    await deliver(s3, GOOD)
    shore.server.requests.clear()
    memo, records = Notes(), [*many(8000), *WIDER]
    receipt = await deliver(s3, records, first=10, memo=memo)
    seen = [one.operation for one in shore.server.requests]
    assert seen.index("abort") < len(seen) - 1 - seen[::-1].index("begin"), "begun again after the first was aborted"
    assert shore.server.uploads(shore.bucket) == []
    content = shore.server.read(shore.bucket, receipt.objects[0])["Body"].read()
    table = pq.read_table(io.BytesIO(content))
    assert (table.num_rows, table.column("more").drop_null().to_pylist()) == (8001, [True])
    assert await deliver(shore.s3(INFERRED), records, first=10, memo=memo) == receipt


async def test_a_schema_that_grows_in_the_middle_of_a_file(shore: Shore) -> None:
    """Nothing of the file that was begun first is left, under its name or another."""
    folder = shore.folder(INFERRED)
    await deliver(folder, GOOD)
    receipt = await deliver(folder, [*many(8000), *WIDER], first=10)
    assert pq.read_metadata(shore.lake / receipt.objects[0]).num_rows == 8001
    assert len(shore.files()) == 4


async def test_a_check_reaches_the_schema(shore: Shore) -> None:
    """What the columns come from is part of what a check of the destination finds out."""
    missing = {"type": "orc", "schema": {"file": str(shore.lake / "nowhere.ddl")}}
    for to in (shore.folder(missing), shore.s3(missing)):
        with pytest.raises(Retry, match=r"nowhere\.ddl"):
            await to.check()
        await to.close()
