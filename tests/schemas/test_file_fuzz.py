"""Whatever a schema's file holds, it is read or refused: nothing else comes out, and it takes no time to speak of."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from firehose.schemas import arrow, file
from firehose.table_schema import TableSchema

KEYWORDS = """
type properties items additionalProperties patternProperties anyOf oneOf allOf $ref enum const format $defs #/$defs/a
object array string integer number null date date-time prefixItems record name fields namespace values map union fixed
symbols logicalType decimal precision scale bytes long duration uuid columns a b int struct<a:int>
"""
STATEMENT = """
CREATE TABLE EXTERNAL IF NOT EXISTS t a b int string struct array map < > ( ) , : . ; ` ' " -- COMMENT 'x' /* */
decimal(3,1) PRIMARY KEY DEFAULT PARTITIONED BY
"""
WORDS = st.sampled_from(KEYWORDS.split())
LEAVES = WORDS | st.none() | st.booleans() | st.integers(-1, 40) | st.floats(allow_nan=False) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6),
    max_leaves=30,
)
RECORDS = st.lists(JSON, max_size=4).map(lambda fields: {"type": "record", "name": "R", "fields": fields})
FIELDS = st.lists(st.fixed_dictionaries({"name": WORDS, "type": JSON}), min_size=1, max_size=3)
OBJECTS = st.dictionaries(WORDS, JSON, min_size=1, max_size=3).map(lambda said: {"properties": said, "$defs": said})
DDL = (
    st.lists(st.sampled_from([*STATEMENT.split(), "`a b`", "\n"]), max_size=30)
    .map(" ".join)
    .map("CREATE TABLE t (".__add__)
)


def parsed(content: bytes) -> TableSchema | None:
    try:
        return file.parse("schema", pa.py_buffer(content))
    except ValueError:
        return None


@given(said=JSON | RECORDS | OBJECTS | FIELDS.map(lambda fields: {"type": "record", "name": "R", "fields": fields}))
@example(said={"properties": {"a": {"enum": 5}}})
@example(said={"properties": {"a": {"allOf": 5}}})
@example(said={"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "enum"}}]})
def test_json(said: Any) -> None:
    """JSON of any shape. What was read can be written and read again."""
    found = parsed(json.dumps(said).encode())
    if found is not None:
        assert TableSchema.parsed(found.types()) == found


@given(text=DDL | st.text())
def test_text(text: str) -> None:
    """Statements that are torn or shuffled, and text that is none."""
    parsed(text.encode("utf-8", "surrogatepass"))


@given(magic=st.sampled_from([*arrow.MAGIC, b""]), rest=st.binary(max_size=200))
def test_bytes(magic: bytes, rest: bytes) -> None:
    """Files that begin like one that has columns, and go on otherwise."""
    parsed(magic + rest)


@given(at=st.integers(0, 400), bits=st.integers(1, 255))
def test_a_damaged_file(at: int, bits: int) -> None:
    """An Arrow file with a wrong byte."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema([("a", pa.int64()), ("s", pa.struct([("x", pa.list_(pa.string()))]))])):
        pass
    content = bytearray(sink.getvalue().to_pybytes())
    content[at % len(content)] ^= bits
    parsed(bytes(content))
