"""The keys that all object writers share, and the names and bytes they lead to."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batches import Notes, batch
from sites import site

from destinations.folder import FolderOptions
from firehose import config
from firehose.compression import Piece
from firehose.formats import Anew, Encoded
from firehose.model import Batch, Receipt
from firehose.objects import ObjectEncoder
from firehose.runtime import Runtime, Threads
from firehose.stream_config import StreamConfig
from firehose.yaml_file import ConfigError

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
EXAMPLES = Path(__file__).parent.parent / "config" / "examples"
SUFFIX = r"app-1-2026-03-01-12-00-07-" + UUID


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 1)
    yield pool
    pool.close()


def options(**keys: Any) -> FolderOptions:
    return FolderOptions.model_validate({"path": "lake", **keys})


def encoder(threads: Threads, purpose: Any = "data", **keys: Any) -> ObjectEncoder:
    return ObjectEncoder(options(**keys), site(threads, purpose=purpose))


def content(made: ObjectEncoder, *records: bytes) -> bytes:
    return stored(made, batch(records))


def stored(made: ObjectEncoder, one: Batch) -> bytes:
    """What is put under the object's name."""
    pieces: list[bytes] = []

    def store(chunks: Iterator[Piece]) -> int:
        pieces.extend(map(bytes, chunks))
        return sum(map(len, pieces))

    receipt = made.deliver(one, Notes(), store, lambda *beside: pytest.fail(str(beside)))
    assert receipt == Receipt((made.name(one),), sum(map(len, pieces)))
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, f"2026/03/01/12/{SUFFIX}"),
        ({"prefix": "logs/"}, f"logs/2026/03/01/12/{SUFFIX}"),
        ({"prefix": "dt=!{timestamp:yyyy-MM-dd}/", "compression": "gzip"}, f"dt=2026-03-01/{SUFFIX}.gz"),
        ({"compression": "gzip", "file_extension": ".log"}, f"2026/03/01/12/{SUFFIX}.log"),
        ({"time_zone": "Asia/Tokyo"}, f"2026/03/01/21/{SUFFIX.replace('01-12', '01-21')}"),
    ],
)
def test_data_names(threads: Threads, keys: dict[str, str], wanted: str) -> None:
    """Data is named as AWS names it: prefix, stream, version, instant, uuid, extension."""
    assert re.fullmatch(wanted.replace(".", r"\."), encoder(threads, **keys).name(batch([b"x"])))


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        (None, f"processing-failed/2026/03/01/12/{SUFFIX}"),
        ("errors/", f"errors/processing-failed/2026/03/01/12/{SUFFIX}"),
        ("bad/!{firehose:error-output-type}/!{timestamp:yyyy}/", f"bad/processing-failed/2026/{SUFFIX}"),
    ],
)
def test_error_names(threads: Threads, prefix: str | None, wanted: str) -> None:
    """In an errors block the prefix is the ErrorOutputPrefix, and the batch's partition is the error type."""
    made = encoder(threads, "errors", prefix=prefix)
    assert re.fullmatch(wanted, made.name(batch([b"x"], partition="processing-failed")))


def test_error_names_tell_destinations_apart(threads: Threads) -> None:
    """Errors of one segment from two destinations of its stream go to two objects."""
    one, other = (ObjectEncoder(options(), site(threads, destination=name, purpose="errors")) for name in ("a", "b"))
    errors = batch([b"x"], partition="processing-failed")
    assert one.name(errors) != other.name(errors)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, b"ab\nc"),
        ({"delimiter": "newline"}, b"a\nb\nc\n"),
        ({"delimiter": "||"}, b"a||b\n||c||"),
        ({"format": {"type": "json_lines"}}, b"a\nb\nc\n"),
        ({"format": {"type": "json_lines"}, "delimiter": "newline"}, b"a\nb\nc\n"),
    ],
)
def test_bytes(threads: Threads, keys: dict[str, Any], wanted: bytes) -> None:
    """Records stand side by side by default, and behind each other's delimiter where one is asked for."""
    assert content(encoder(threads, **keys), b"a", b"b\n", b"c") == wanted


def test_error_documents_are_lines(threads: Threads) -> None:
    """Error documents stand one on a line, whatever the block says about records."""
    assert content(encoder(threads, "errors"), b"{}", b"{}") == b"{}\n{}\n"


@pytest.mark.parametrize("purpose", ["data", "errors"])
def test_zip_entry_is_named_for_the_object(threads: Threads, purpose: str) -> None:
    """The entry of a zip has the uuid of the object's name."""
    made = encoder(threads, purpose, compression="zip")
    one = batch([b"x\n"], partition="splunk-failed" if purpose == "errors" else "")
    (entry,) = zipfile.ZipFile(io.BytesIO(stored(made, one))).namelist()
    assert made.name(one).endswith(f"{entry}.zip")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prefix", "a/!{timestamp:yyyy", "'!{' may only start a valid expression"),
        ("prefix", "../up/", "segment '.' or '..'"),
        ("prefix", "x!{firehose:error-output-type}!{firehose:nonsense}/", "there are only"),
        ("time_zone", "Europe/Berlyn", "did you mean Europe/Berlin?"),
        ("file_extension", "gz", "FileExtension must be empty, or a '.'"),
        ("compression", "bzip2", "input should be 'none', 'gzip'"),
        ("delimiter", "||", "json_lines ends each record with a newline"),
    ],
)
def test_problems_name_their_key(key: str, value: str, message: str) -> None:
    """What is wrong with a key is told at that key's place in the file."""
    problem = refusal(destination={"type": "folder", "path": "lake", "format": {"type": "json_lines"}, key: value})
    assert f"delivery_streams.app.destination.{key}: " in problem
    assert message.lower() in problem.lower()


def test_data_prefix_has_no_error_type() -> None:
    """The error type belongs into the prefix of an errors block alone."""
    text = "lake/!{firehose:error-output-type}/"
    problem = refusal(destination={"type": "folder", "path": "lake", "prefix": text})
    assert "destination.prefix: Prefix must not contain !{firehose:error-output-type}" in problem


@pytest.mark.parametrize("second", ["a/", "a/!{timestamp:yyyy/MM/dd/HH/}"])
def test_two_destinations_never_share_names(second: str) -> None:
    """Destinations of one stream that would overwrite each other are refused, spelled alike or not."""
    blocks = [
        {"type": "folder", "name": "one", "path": "lake", "prefix": "a/"},
        {"type": "folder", "name": "two", "path": "./lake/", "prefix": second},
    ]
    assert "destinations[1].prefix: gives its objects the names that 'one' gives" in refusal(destinations=blocks)


def test_destinations_may_share_a_folder() -> None:
    """Two destinations in one folder are fine where anything in their names differs."""
    blocks = [
        {"type": "folder", "name": "one", "path": "lake"},
        {"type": "folder", "name": "two", "path": "lake", "compression": "gzip"},
        {"type": "folder", "name": "three", "path": "lake", "prefix": "b/"},
        {"type": "folder", "name": "four", "path": "pond"},
    ]
    assert len(loaded(destinations=blocks).destinations) == 4


def test_an_errors_block_is_judged_as_such() -> None:
    """The prefix of an errors block needs the error type where it has expressions."""
    stream = loaded(
        destination={"type": "folder", "path": "lake"},
        errors={"type": "folder", "path": "lake", "prefix": "e/!{timestamp:yyyy}/"},
    )
    assert isinstance(stream.errors, FolderOptions)
    ((key, message),) = stream.errors.problems(stream)
    assert key == "prefix"
    assert "must contain at least one occurrence of !{firehose:error-output-type}" in message


def test_place_is_comparable() -> None:
    """Two spellings of one place are equal; another prefix is another place."""
    assert options(path="./a//b/").place() == options(path="a/b").place()
    assert options().place() != options(prefix="x/").place()


PARQUET = {"type": "parquet", "schema": {"columns": {"n": "bigint"}}}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"format": PARQUET}, ".parquet"),
        ({"format": {"type": "orc"}}, ".orc"),
        ({"format": PARQUET, "file_extension": ".snappy.parquet"}, ".snappy.parquet"),
    ],
)
def test_a_format_has_its_extension(keys: dict[str, Any], wanted: str) -> None:
    """A file of columns is told by its name, unless the block says another."""
    name = options(**keys).names().data(batch([b"x"]).segment)
    assert re.fullmatch(r"2026/03/01/12/" + SUFFIX + re.escape(wanted), name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"format": PARQUET, "compression": "gzip"},
            "destination.compression: The S3 destination's compression format",
        ),
        ({"format": PARQUET, "delimiter": "newline"}, "destination.delimiter: parquet has rows"),
        ({"format": {"type": "parket"}}, "destination.format: unknown type; did you mean 'parquet'?"),
        ({"format": {}}, "destination.format: has no type: choose from raw, json_lines, parquet, orc"),
        ({"format": "parquet"}, "destination.format: must be a mapping"),
        (
            {"format": {**PARQUET, "compresion": "gzip"}},
            "destination.format.compresion: unknown key; did you mean 'comp",
        ),
        (
            {"format": {"type": "orc", "stripes": 1}},
            "destination.format.stripes: unknown key; did you mean 'stripe_size",
        ),
        (
            {"format": {**PARQUET, "compression": "gzp"}},
            "destination.format.compression: input should be 'none', 'snap",
        ),
        ({"format": {**PARQUET, "schema": {"columns": {"n": "lng"}}}}, "destination.format.schema.columns.n: "),
        ({"format": {"type": "orc", "schema": {"file": "/no/such.ddl"}}}, "destination.format.schema.file: "),
        (
            {"format": {**PARQUET, "deserializer": "opnx"}},
            "destination.format.deserializer: unknown type; did you mean",
        ),
    ],
)
def test_problems_of_a_format_name_their_place(keys: dict[str, Any], message: str) -> None:
    """Whatever is wrong inside a format is told at the key that the file has, with the way out."""
    assert message.lower() in refusal(destination={"type": "folder", "path": "lake", **keys}).lower()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_error_documents_are_never_converted(compression: str) -> None:
    """An errors block with a format of columns is refused: its documents are JSON."""
    errors = {"type": "folder", "path": "bad", "format": PARQUET, "compression": compression}
    problem = refusal(destination={"type": "folder", "path": "lake"}, errors=errors)
    assert "errors.format: error documents are JSON lines, never parquet; leave format out" in problem


class Restless:
    """A format whose schema never stops growing."""

    extension = ""

    def encoded(self, batch: Batch, memo: object) -> Encoded:
        raise Anew

    def check(self) -> None: ...

    def close(self) -> None: ...


def test_a_schema_that_never_stops_growing_is_a_bug(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is begun again at once where its schema has grown, but not for ever."""
    monkeypatch.setattr("firehose.objects.format_named", lambda *_: Restless())
    with pytest.raises(RuntimeError, match="its schema has grown 100 times"):
        content(encoder(threads), b"x")


def loaded(**stream: Any) -> StreamConfig:
    return config.stream("app", stream)


def refusal(**stream: Any) -> str:
    with pytest.raises(ConfigError) as told:
        config.parse("test.yaml", yaml_of(stream))
    return str(told.value)


def yaml_of(stream: dict[str, Any]) -> str:
    return json.dumps({"delivery_streams": {"app": stream}})


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_the_example_shows_every_key(kind: str) -> None:
    """A destination's example is a valid configuration that shows each of its keys, commented out or not."""
    text = (EXAMPLES / f"destination-{kind}.yaml").read_text(encoding="utf-8")
    stream = config.parse(kind, text, lambda _: None).streams["app-logs"]
    assert stream.errors is not None
    assert list(stream.errors.problems(stream)) == []
    shown = set(re.findall(r"^ {6}(?:# )?([a-z_]+):(?: |$)", text, re.MULTILINE))
    assert shown >= set(type(stream.destinations["lake"]).model_fields)
