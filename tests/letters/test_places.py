"""Letters are found where a configuration's error outputs write them, and wherever a person says that they lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from s3_server import KEYS, Answer, S3Server, running

from firehose import config
from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.config import Config
from firehose.letters import places, shelf
from firehose.letters.letter import Damage, Letter
from firehose.letters.places import Place
from firehose.letters.shelf import ATTEMPTS, Unreadable
from firehose.model import Segment
from firehose.naming import ObjectNames

SEGMENT = Segment("app", "lane", 0, 1, 10, datetime(2026, 3, 1, 12, 30, tzinfo=UTC), 1)
AWS_OBJECT = "my-stream-2-2026-03-01-12-30-00-0e3f2a61-4b1c-4d6b-8f10-8b8d4fd3c3d5"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What boto3's own chain finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_access_key"])


def document(data: bytes) -> bytes:
    return json.dumps({"rawData": base64.b64encode(data).decode(), "errorCode": "E"}).encode() + b"\n"


def write(path: Path, *records: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(document, records)))


def parsed(tmp_path: Path, errors: str = "", stream: str = "app") -> Config:
    return config.parse(
        "firehose.yaml",
        f"""
service: {{data_dir: "{tmp_path}/data"}}
delivery_streams:
  {stream}:
    destination: {{type: folder, path: "{tmp_path}/out"}}
    {errors}
""",
    )


def of(configured: Config, only: str | None = None) -> list[Place]:
    return list(places.of_config(configured, only, LocalDisk(), Clients()))


def at(where: str, url: str | None = None, only: str | None = None) -> Place:
    return places.named(where, url, None, only, LocalDisk(), Clients())


def found(place: Place, under: str = "") -> list[tuple[str, str, bytes]]:
    """Stream, error type and data of all letters."""
    read = [one for item in place.items(under) for one in place.letters(item.name)]
    assert [one for one in read if not isinstance(one, Letter)] == []
    return [(one.stream, one.error_type, one.data) for one in read if isinstance(one, Letter)]


def test_the_folder_by_default(tmp_path: Path) -> None:
    """A stream without an errors block has its letters under data_dir; before there are any, there are none."""
    (place,) = of(parsed(tmp_path))
    assert found(place) == []
    write(tmp_path / "data/errors/app" / ObjectNames().error(SEGMENT, "ingest-failed", "far"), b"one", b"two")
    assert found(place) == [("app", "ingest-failed", b"one"), ("app", "ingest-failed", b"two")]


def test_only_the_stream_s_own(tmp_path: Path) -> None:
    """Of a place that several share, each stream has its own objects, and nobody what none of them wrote."""
    root = tmp_path / "errors"
    names = ObjectNames(error_output_prefix="bad/!{firehose:error-output-type}/!{timestamp:yyyy}/")
    block = f'errors: {{type: folder, path: "{root}", prefix: "{names.error_output_prefix}"}}'
    write(root / names.error(SEGMENT, "processing-failed", "far"), b"mine")
    write(root / names.error(replace(SEGMENT, stream="web"), "processing-failed", "far"), b"another stream's")
    write(root / "bad/processing-failed/2026" / AWS_OBJECT.replace("my-stream", "app"), b"Amazon's")
    write(root / ".partial/bad/x", b"unfinished")
    (root / "notes.txt").write_bytes(b"a person's")
    (place,) = of(parsed(tmp_path, block))
    assert found(place) == [("app", "processing-failed", b"mine")]
    assert found(place, "bad/processing-failed/2026/app") == [("app", "processing-failed", b"mine")]
    assert found(place, "other/") == found(place, "bad/processing-failed/2027") == []


def test_a_bucket_of_our_own(tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An errors block of type s3 is read back with its own connection, page by page."""
    monkeypatch.setattr(shelf, "PAGE_OBJECTS", 7)
    bucket = server.new_bucket()
    names = ObjectNames(error_output_prefix="errors/", extension=".gz")
    client = server.client()
    for first in range(23):
        name = names.error(replace(SEGMENT, first=first), "delivery-failed", "far")
        client.put_object(Bucket=bucket, Key=name, Body=document(b"%d" % first))
    client.put_object(Bucket=bucket, Key="data/other", Body=b"data")
    client.close()
    block = f"""errors: {{type: s3, bucket: {bucket}, prefix: errors/, endpoint_url: "{server.url}",
      access_key_id: {KEYS["access_key_id"]}, secret_access_key: {KEYS["secret_access_key"]}}}"""
    (place,) = of(parsed(tmp_path, block))
    items = list(place.items())
    assert len(items) == 23
    assert [item.name for item in items] == sorted(item.name for item in items)
    read = {one.data for item in items[:3] for one in place.letters(item.name) if isinstance(one, Letter)}
    assert len(read) == 3
    assert server.seen().count("get") == 4 + 3
    place.shelf.close()


def test_a_bucket_that_amazon_wrote(server: S3Server) -> None:
    """Stream and error type are told by names, whatever stands before them."""
    bucket = server.new_bucket()
    client = server.client()
    for name, body in {
        f"raw/processing-failed/2026/03/01/12/{AWS_OBJECT}": document(b"one"),
        f"raw/AmazonOpenSearchService_failed/2026/03/01/12/{AWS_OBJECT}.gz": document(b"two"),
        f"raw/2026/03/01/12/{AWS_OBJECT}": b"data of the same stream",
        "raw/x": document(b"three"),
        "rest": b"data",
    }.items():
        client.put_object(Bucket=bucket, Key=name, Body=body)
    client.close()
    place = at(f"s3://{bucket}/raw/", server.url)
    assert sorted(found(place)) == [
        ("", "", b"three"),
        ("my-stream", "AmazonOpenSearchService_failed", b"two"),
        ("my-stream", "processing-failed", b"one"),
    ]
    place.shelf.close()
    only = at(f"s3://{bucket}/raw/", server.url, "my-stream")
    assert [data for _, _, data in found(only)] == [b"two", b"one"]
    only.shelf.close()


def test_a_store_that_stumbles(server: S3Server) -> None:
    """A passing failure is got over; one that stays is told with the place."""
    bucket = server.new_bucket()
    client = server.client()
    client.put_object(Bucket=bucket, Key="one", Body=document(b"one"))
    client.close()
    place = at(f"s3://{bucket}", server.url)
    server.script += [("get", Answer(503, "SlowDown"))]
    assert found(place) == [("", "", b"one")]
    assert server.script == []
    place.shelf.remove("one")
    assert found(place) == []
    assert list(place.letters("one")) == []
    place.shelf.close()
    missing = at("s3://no-such-bucket-here", server.url)
    with pytest.raises(Unreadable, match="s3://no-such-bucket-here/: NoSuchBucket"):
        found(missing)
    missing.shelf.close()


def test_an_object_that_is_withheld(tmp_path: Path, server: S3Server) -> None:
    """One that may not be read, or lies in an archive, is told and ends nothing; a store that fails ends it all."""
    bucket = server.new_bucket()
    client = server.client()
    client.put_object(Bucket=bucket, Key="one", Body=document(b"one"))
    client.close()
    place = at(f"s3://{bucket}", server.url)
    server.script += [("get", Answer(403, "InvalidObjectState"))]
    (told,) = place.letters("one")
    assert isinstance(told, Damage)
    assert "InvalidObjectState" in str(told)
    server.script += [("get", Answer(500, "InternalError"))] * ATTEMPTS
    with pytest.raises(Unreadable, match="InternalError"):
        list(place.letters("one"))
    assert server.script == []
    place.shelf.close()
    write(tmp_path / "one", b"one")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    folder = at(str(tmp_path))
    read = [one for item in folder.items() for one in folder.letters(item.name)]
    assert [type(one) for one in read] == [Damage, Letter]


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    """A folder is read whole, a file alone, however either is named; an address is the same either way."""
    write(tmp_path / "a/processing-failed/one", b"one")
    write(tmp_path / "a/processing-failed/two", b"two")
    folder, file = at(str(tmp_path / "a")), at(str(tmp_path / "a/processing-failed/one"))
    assert found(folder) == [("", "processing-failed", b"one"), ("", "processing-failed", b"two")]
    assert [data for _, _, data in found(file)] == [b"one"]
    assert folder.shelf.address("processing-failed/one") == file.shelf.address("one")


def test_a_linked_folder(tmp_path: Path) -> None:
    """A letter's object has one address, whichever link led there: it is known by that."""
    write(tmp_path / "a/one", b"one")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    addresses = {at(str(tmp_path / way)).shelf.address("one") for way in ("a", "link", "link/../a")}
    assert addresses == {str((tmp_path / "a/one").resolve())}


def test_removal(tmp_path: Path) -> None:
    """An object goes with the folders that it leaves empty, and nothing else does."""
    write(tmp_path / "a/b/c/one", b"one")
    write(tmp_path / "a/two", b"two")
    found_there = at(str(tmp_path)).shelf
    found_there.remove("a/b/c/one")
    found_there.remove("a/b/c/one")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["a", "two"]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A place or a stream that is not there is told, never taken for empty."""
    with pytest.raises(Unreadable, match="no such folder or file"):
        at(str(tmp_path / "typo"))
    with pytest.raises(Unreadable, match="no delivery stream 'web'"):
        of(parsed(tmp_path), "web")
