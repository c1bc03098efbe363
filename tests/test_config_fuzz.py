"""Configurations and prefixes as any text: a clear answer always, and what is accepted works."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faulty_disk import FaultyDisk
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sites import site
from virtual_time import Inline, VirtualRuntime, run

from firehose import config, observe, registry
from firehose.buffer import layout
from firehose.catalogue import Catalogue
from firehose.config import Config
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.front import Front
from firehose.http.server import server
from firehose.model import Segment
from firehose.naming import ObjectNames, problems
from firehose.service import Service
from firehose.streams import Streams
from firehose.yaml_file import ConfigError

KEYS = ["service", "delivery", "delivery_streams", "app", "a b", "destination", "destinations", "errors", "buffering"]
KEYS += [
    "type",
    "path",
    "bucket",
    "prefix",
    "compression",
    "format",
    "retry",
    "listen",
    "api_keys",
    "size_mib",
    "<<",
    "",
]
KEYS += [
    "time_zone",
    "file_extension",
    "delimiter",
    "transforms",
    "source",
    "name",
    "limit_gib",
    "endpoint_url",
    "tags",
]
SCALARS = ["folder", "s3", "out", "gzip", "zip", "raw", "${KEY}", "${NONE}", "${NONE:-x}", "${", "$${x}", "${file:/no}"]
SCALARS += ["127.0.0.1:0", ":99999", "!{timestamp:yyyy}/", "!{", "\0", "\ud800", "é", "Europe/Berlin", "1e999", "\x7f"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(SCALARS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
FLOW = st.builds(lambda value: json.dumps(value, ensure_ascii=False), VALUES)  # every JSON text is YAML
MARKS = [
    "a: ",
    "- ",
    "? ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary x",
    "!!python/object:os.system x",
    "2026-13-01",
    "|\n",
    ">\n",
]
MARKS += [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "  ",
    "\t",
    "#",
    "'",
    '"',
    "%YAML 9.9\n",
    "---\n",
    "...\n",
    "\ufeff",
    "0x",
    "1:60",
]
TEXT = st.lists(st.sampled_from([*MARKS, *KEYS, *SCALARS]) | st.text(max_size=3), max_size=14).map("".join)
STREAM = "delivery_streams: {app: {destination: {type: folder, path: out, prefix: %s}}}"


def clear(error: ConfigError, text: str) -> bool:
    """Whether each problem says something, and where: only what concerns the file as a whole has no path."""
    lines = range(len(text.splitlines()) + 2)
    found = error.problems
    return bool(found) and all(one.message and one.line in lines and (one.line or not one.path) for one in found)


def read(text: str) -> Config | None:
    """The configuration; None where it is refused, once the refusal has proved to be clear."""
    try:
        return config.parse("f.yaml", text, {"KEY": "value"}.get)
    except ConfigError as error:
        if not clear(error, text):
            raise
        return None


@given(TEXT | FLOW)
@example("a: &a\n  <<: *a\n")
@example("{" * 2000)
@example("delivery_streams: {app: {destination: {type: s3, bucket: b, tags: {? [] : 1}}}}")
def test_any_text(text: str) -> None:
    """Any text at all is a configuration or a list of problems, each with its line, and never a traceback."""
    read(text)


NUMBERS = st.one_of(st.integers(0, 100), st.floats(0, allow_infinity=False), st.just(10**400), st.just("${KEY}"))
NAMES = st.sampled_from(["gzip", "zip", "snappy", "zstd", "none", "raw", "newline", "message", "info", "json"])
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "prefix": st.text("ab/!{}.:timesayM", max_size=12), "time_zone": st.sampled_from(["UTC", "Asia/Tokyo", "x"]),
    "path": st.text(max_size=6), "name": st.text("ab-.", max_size=4), "compression": NAMES,
    "buffering": st.dictionaries(st.sampled_from(["size_mib", "interval_seconds"]), NUMBERS), "limit_gib": NUMBERS,
    "file_extension": st.text(".az", max_size=4), "wrap": NAMES, "delimiter": st.text(max_size=3),
    "max_record_kib": NUMBERS, "strict": st.booleans(),
    "retry": st.dictionaries(st.just("deadline_seconds"), NUMBERS), "format": st.just({"type": "json_lines"}) | VALUES,
}  # fmt: skip
OPTIONS = sorted(config.ServiceOptions.model_fields)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Blocks of the right kind, of which some values are odd or wrong."""
    block: dict[str, Any] = {"type": "folder", "path": "out"}
    stream: dict[str, Any] = {"destination": block}
    for target in (block, stream):
        for key in draw(st.lists(st.sampled_from([*LIKELY, *LIKELY, *KEYS]), max_size=2)):
            target[key] = draw(LIKELY.get(key, VALUES))
    service = draw(st.dictionaries(st.sampled_from(OPTIONS), NUMBERS | NAMES, max_size=1))
    return {"service": service, "delivery_streams": {"app": stream}}


async def put_to_work(found: Config, folder: str) -> None:
    """All that a start makes of a configuration before it opens its port, the processes left out."""
    options = found.service.model_copy(update={"data_dir": folder, "delivery": "inline"})
    disk = FaultyDisk()
    disk.make_folder(layout.buffer_folder(folder))
    Service(replace(found, service=options), lambda: found, disk, VirtualRuntime())
    streams = Streams(folder, disk, VirtualRuntime(), options, Catalogue(disk, folder))
    streams.recover()
    streams.follow(found)
    for name, definition in found.definitions.items():
        kept = json.loads(json.dumps(definition, default=str))
        again = config.stream(name, kept, {"KEY": "value"}.get)
        assert again.destinations == found.streams[name].destinations
        for block in again.destinations.values():
            registry.destination(block, site(Inline()))


@given(documents())
@example({"service": {"in_flight_mib": 1e308}})
@example({"service": {"keep_alive_seconds": 10**400}})
@example({"delivery_streams": {"app": {"limit_gib": 1e300, "destination": {"type": "folder", "path": "out"}}}})
@example({"delivery_streams": {"app": {"destination": {"type": "folder", "path": "out", "delimiter": "\U00010000"}}}})
def test_what_is_accepted_starts(document: dict[str, Any]) -> None:
    """A document with any values is refused clearly, or the service can be put to work with it."""
    found = read(json.dumps(document))
    if found is not None:
        run(put_to_work(found, "/data"))
        server(Front(lambda *_: None, nobody, Admission(1), 1, observe.Requests()), found.service)


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI."""


PIECES = [
    "!{timestamp:",
    "!{firehose:random-string}",
    "!{firehose:error-output-type}",
    "!{partitionKeyFromQuery:a}",
    "}",
]
PIECES += [
    "yyyy",
    "MM",
    "'",
    "''",
    "[",
    "]",
    "G",
    "z",
    "VV",
    "n",
    "A",
    "'x'",
    "/",
    ".",
    "..",
    "!{",
    "{",
    "é",
    "\0",
    "\ud800",
]
PREFIX = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)
PATTERN = st.builds("!{{timestamp:{}}}/".format, st.text("yYuMLdDeEaBhHkKmsSnNAgGQqwWFcxXzZvO'[]{}#-/ ", max_size=12))
ZONES = [
    "UTC",
    "",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "America/Adak",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "No/Where",
]
INSTANTS = st.datetimes(datetime(2001, 1, 1), datetime(2399, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))
KEYS_OF_PARTITION = {"partitionKeyFromQuery": {"a": "x" * 300}}


@given(PREFIX | PATTERN, PREFIX | st.none(), st.sampled_from(ZONES), INSTANTS)
@example("!{timestamp:z}/", None, "Africa/Casablanca", datetime(2026, 1, 1, tzinfo=UTC))
@example("x" * 512, None, "UTC", datetime(2026, 1, 1, tzinfo=UTC))
def test_any_prefix(prefix: str, errors: str | None, zone: str, at: datetime) -> None:
    """A prefix is refused for reasons, or gives at every instant one and the same name that S3 takes."""
    partitioned = "!{partitionKeyFrom" in prefix
    found = problems(prefix, errors, time_zone=zone, partitioned=partitioned)
    assert all(found)
    segment = Segment("s" * 64, "lane", 2**62, 1, 1, at, 2**31)
    if found:
        with pytest.raises(ValueError, match=r"."):
            ObjectNames(prefix, errors, zone)
        return
    names = ObjectNames(prefix, errors, zone, extension="." + "x" * 127)
    for name in (names.data(segment, KEYS_OF_PARTITION), names.error(segment, "processing-failed")):
        assert len(name.encode()) <= 1024
        assert not name.startswith("/")
        assert not {".", ".."} & set(name.split("/"))
    again = ObjectNames(prefix, errors, zone, extension="." + "x" * 127)
    assert again.data(segment, KEYS_OF_PARTITION) == names.data(segment, KEYS_OF_PARTITION)


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "No/Where"])
@given(letters=st.text("yYuMLdDeEaBhHkKmsSnNAgGQqwWFcxXzZvO", max_size=6))
def test_what_is_accepted_never_fails_at_another_season(zone: str, letters: str) -> None:
    """A pattern that the check lets pass can be rendered in summer and in winter, whatever names a zone has then."""
    prefix = f"!{{timestamp:{letters}}}/"
    assume(not problems(prefix, None, time_zone=zone))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for weeks in range(0, 60, 3):
        at = start + timedelta(weeks=weeks)
        assert ObjectNames(prefix, None, zone).data(Segment("app", "lane", 0, 1, 1, at, 1))
