"""The ledger and the catalogue as any bytes: a start reads past what it cannot understand, and reports it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faulty_disk import FaultyDisk
from hypothesis import example, given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from firehose.buffer.ledger import Ledger, read_book
from firehose.catalogue import Catalogue, opened
from firehose.model import NewerFormat

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["delivered", "held", "released", "memo", "trying", "resting", "deaths", "totals", "origins", "news"]
)
PLACE = st.just(["app", "lane", 0]) | JSON
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "t": KINDS | JSON, "s": PLACE, "d": st.just("far") | JSON, "n": st.just({"delivered": 1}) | JSON,
        "o": st.just({"p": [1, "c"]}) | JSON, "why": JSON, "note": JSON, "stream": st.just("app") | JSON,
        "ledger": st.just(1) | JSON,
    },
)  # fmt: skip
DEEP = b"[" * 100_000


def line(said: bytes) -> bytes:
    return b"%08x %s\n" % (crc32(said), said)


LINES = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda entry: line(json.dumps(entry).encode()), ENTRY | JSON),
    st.builds(line, st.binary(max_size=20)),
    st.sampled_from([line(DEEP), line(b"\xff"), b"00000000 \n", b"+0000001 x\n", b"\n\n"]),
)
GOOD = line(b'{"t":"totals","stream":"web","d":"far","n":{"delivered":7}}')


@given(st.lists(LINES, max_size=6).map(b"".join))
@example(line(b'{"t":"held","s":["app","lane",0],"d":"far","why":7}'))
@example(line(b'{"t":"origins","stream":"app","o":{"p":["x","c"]}}'))
def test_any_ledger(content: bytes) -> None:
    """Whatever the lines say, those that are entries count and no others stop a start, a fold or the next one."""
    disk = FaultyDisk()
    disk.make_folder("/data")
    disk.put("/data/ledger", b"\n".join([content, GOOD]))
    reports: list[str] = []
    try:
        ledger = Ledger(disk, "/data/ledger", reports.append, lambda keys: set())
    except NewerFormat:
        return
    ledger.append({"t": "totals", "stream": "web", "d": "far", "n": {"delivered": 1}})
    ledger.close()
    assert bool(reports) == disk.exists("/data/ledger.damaged")
    book, bad = read_book(disk, "/data/ledger")
    assert book.totals["web", "far"].delivered >= 8
    assert bad == []


ENTRIES: dict[str, Any] = {
    "name": "app", "origin": "yaml", "state": "ACTIVE", "created_ms": 1, "version": 1, "updated_ms": None,
    "definitions": {"1": {"destination": {"type": "folder", "path": "out"}}},
    "spans": {"folder": [{"since": 0, "until": None}]},
}  # fmt: skip


@st.composite
def catalogues(draw: st.DrawFn) -> bytes:
    """A catalogue of which one value is another."""
    entry = {**ENTRIES, draw(st.sampled_from(list(ENTRIES))): draw(JSON)}
    whole = {"format": 1, "streams": {"app": entry}}
    return json.dumps(draw(st.sampled_from([whole, {**whole, "streams": draw(JSON)}, draw(JSON)]))).encode()


@given(catalogues() | st.binary(max_size=40) | st.sampled_from([DEEP, b"", b"{}", b'{"format":[]}', b"NaN"]))
def test_any_catalogue(content: bytes) -> None:
    """Whatever the file holds, a start knows the streams of the configuration, and what was no catalogue is kept."""
    disk = FaultyDisk()
    disk.make_folder("/data")
    disk.put("/data/catalog", content)
    reports: list[str] = []
    try:
        catalogue = opened(disk, "/data", reports.append)
    except NewerFormat:
        return
    definition = {"destination": {"type": "folder", "path": "elsewhere"}}
    catalogue.reconcile({"app": definition}, 5, lambda stream: 0, lambda stream: set())
    assert catalogue.destinations("app", catalogue.version("app")) == ("folder",)
    assert (bool(reports), disk.exists("/data/catalog.damaged")) in ((True, True), (False, False))
    again = Catalogue(disk, "/data")
    assert again.entries["app"].newest == definition


@pytest.mark.parametrize("version", [2, 0, -1])
def test_a_catalogue_without_its_newest_definition(version: int) -> None:
    """A version that has no definition, as one flipped bit makes it, is damage and no traceback."""
    disk = FaultyDisk()
    disk.make_folder("/data")
    disk.put("/data/catalog", json.dumps({"format": 1, "streams": {"app": {**ENTRIES, "version": version}}}).encode())
    reports: list[str] = []
    assert opened(disk, "/data", reports.append).entries == {}
    assert "cannot be understood" in reports[0]
