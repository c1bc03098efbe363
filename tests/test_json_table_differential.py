"""The fast way against the slow one: whatever a block holds, both give the same rows and the same refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batches import rows
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firehose.deserializers import Hive, OpenX, Plain
from firehose.deserializers.deserializer import Deserializer
from firehose.deserializers.seen import Seen
from firehose.json_plan import JsonPlan
from firehose.json_table import JsonTable, Read, Unforeseen
from firehose.table_schema import TableSchema

COLUMNS = {
    "flag": "boolean",
    "small": "tinyint",
    "whole": "bigint",
    "near": "float",
    "real": "double",
    "price": "decimal(10,2)",
    "text": "string",
    "code": "varchar(3)",
    "raw": "binary",
    "day": "date",
    "at": "timestamp",
    "in": "struct<id:bigint,at:timestamp,deep:struct<Name:string>>",
    "list": "array<struct<when:timestamp,n:int>>",
}
SCHEMA = TableSchema.parsed(COLUMNS)
OPENX = OpenX(
    OpenX.Options(convert_dots_in_json_keys_to_underscores=True, column_to_json_key_mappings={"code": "kode"})
)
HIVE = Hive(Hive.Options(timestamp_formats=("yyyy-MM-dd HH:mm:ss.SSS", "millis")))
DESERIALIZERS = [
    pytest.param(Plain(), id="plain"),
    pytest.param(OpenX(), id="openx"),
    pytest.param(OPENX, id="openx with options"),
    pytest.param(Hive(), id="hive"),
    pytest.param(HIVE, id="hive with formats"),
]
NUMBERS = [
    *("0", "-0", "1", "-1", "127", "128", "1.0", "1.5", "1e2", "1E-3", "-0.0", "1e400", "1e39", "1e-400", "0.1"),
    *("9007199254740993", "9007199254740993.0", "9223372036854775807", "9223372036854775808", "1" * 30, "1e18"),
    *("1700000000", "1700000000123", "1700000000.25", "1700000000123.5", "-62135596800", "253402300800", "12.345"),
    *("16777217", "3.4028236e38", "NaN", "Infinity", "-Infinity", "Inf", "01", "+1", ".5", "1.", "0x10"),
]
STRINGS = [
    *(
        "",
        "x",
        "abcdef",
        "5",
        "-5.50",
        "+5",
        "1e2",
        "true",
        "TRUE",
        "NaN",
        "oops",
        "é€😀𐀀",
        "1700000000",
        "0001",
        "0123",
    ),
    *("2024-01-02", "2024-1-2", "2024-02-30", "0000-01-01", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123456789Z"),
    *("2024-01-02T03:04:05+02:00", "2024-01-02T03:04:05-0130", "2024-01-02T03:04:05", "2024-01-02 03:04:05"),
    *("2024-01-02 03:04:05.5", "2024-1-2 3:4:5", "2024-01-02 03:04", "2024-01-02T24:00:00Z", "2024-01-02T03:04:60Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+01:00"),
    *("2024-01-02T03:04:05+24:00", "2024-01-02 03:04:05.123", " 5", "5 ", "a\u0000b", "NaN]", "{", "}\n{"),
]
OTHERS = [
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u0041\\/"',
    "tru",
    "{}",
    "[]",
    "[1]",
    '{"id":1}',
    "[null]",
    '{"deep":{}}',
]
KEYS = [
    *COLUMNS,
    "Flag",
    "WHOLE",
    "wHole",
    "at",
    "in.id",
    "in_id",
    "kode",
    "KODE",
    "other",
    "te\\u0078t",
    "T\\u0065xt",
    "",
]


def texts() -> st.SearchStrategy[str]:
    """JSON of one value, more or less."""
    leaf = st.one_of(
        st.sampled_from(["null", "true", "false", *OTHERS]),
        st.sampled_from(NUMBERS),
        st.sampled_from(STRINGS).map(json.dumps),
        st.integers(-(2**66), 2**66).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(max_size=4).map(json.dumps),
    )
    when = st.tuples(st.sampled_from(["id", "at", "deep", "Id", "name", "x"]), leaf)
    items = st.tuples(st.sampled_from(["when", "n", "N", "x"]), leaf)
    return st.one_of(
        leaf,
        st.lists(when, max_size=3).map(_object),
        st.lists(st.lists(items, max_size=3).map(_object), max_size=3).map(lambda inner: f"[{','.join(inner)}]"),
        st.lists(when, max_size=2).map(lambda pairs: f'{{"deep":{_object(pairs)}}}'),
    )


def _object(pairs: list[tuple[str, str]]) -> str:
    members = ",".join(f'"{key}":{value}' for key, value in pairs)
    return f"{{{members}}}"


documents = st.lists(st.tuples(st.sampled_from(KEYS), texts()), max_size=4).map(_object)
ODDITIES = [
    *(b"", b" ", b"\n", b"[]", b"null", b"{", b"}", b'{"whole":1} null', b'{"whole":1}{"whole":2}', b'{"whole":\n1}'),
    *(b'{"text":"\xff"}', b'\xef\xbb\xbf{"whole":1}', b'{"whole":1}\r\n', b'{"whole":1}\n\n', b'{"other":"\xff"}'),
    *(b'{"whole":1}\0', b'{"whole":1}x}', b'{"text":"a', b'b"}', b'{"in":{}', b'{"whole":1,}', b'{"whole":1}]'),
    *(
        b'{"other":NaN}',
        b'{"other":[-Infinity]}',
        b'{"\xff":1}',
        b'{"other":01}',
        b'{"other":"\\x"}',
        b'{"other":1e999}',
    ),
    *(b'{"a":' * 600 + b"1" + b"}" * 600, b'{"other":' + b"[" * 510 + b"]" * 510 + b"}"),
]
records = st.one_of(
    documents.map(str.encode), documents.map(lambda text: text.encode() + b"\n"), st.sampled_from(ODDITIES)
)
# One column alone, of one kind alone: what real streams look like, and what kernels are for.
alike = st.tuples(
    st.sampled_from(list(COLUMNS)), st.sampled_from([NUMBERS, [json.dumps(text) for text in STRINGS]])
).flatmap(
    lambda pair: st.lists(
        st.sampled_from(pair[1]).map(lambda text: f'{{"{pair[0]}":{text}}}'.encode()), min_size=1, max_size=4
    )
)
blocks = st.one_of(st.lists(records, max_size=6), alike)


class Slowly(JsonTable):
    """Document by document, always."""

    def _planned(self, seen: Seen) -> JsonPlan | None:
        return None


def read(table: JsonTable, given: list[bytes]) -> Read | str:
    try:
        return table.read(rows(given))
    except Unforeseen as error:
        return f"unforeseen: {error.key}"


def shown(read: Read | str) -> Any:
    """Every bit of it; as text, since NaN is unequal to itself and -0.0 equal to 0."""
    return read if isinstance(read, str) else (repr(read.table.to_pydict()), read.refused.table.to_pylist())


@pytest.mark.parametrize("deserializer", DESERIALIZERS)
@pytest.mark.parametrize("grows", [False, True])
@given(given=blocks, more=blocks)
@example(given=[b'{"at":-9223372036854775808}'], more=[])
@example(given=[b'{"text":-0}'], more=[b'{"text":-0}'])
@settings(max_examples=60, deadline=None)
def test_same(deserializer: Deserializer, grows: bool, given: list[bytes], more: list[bytes]) -> None:
    """Two blocks in a row, the second read with what was learned of the first, are read alike both ways."""
    fast, slow = JsonTable(SCHEMA, deserializer, grows), Slowly(SCHEMA, deserializer, grows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firehose.json_table.FEW", 1)  # hardly a block is too small to be read at once
        for block in (given, more, given):
            assert shown(read(fast, block)) == shown(read(slow, block))
