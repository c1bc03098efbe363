"""Keys by jq query and from the user's code: jq's own values, and a reason for each record that has none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import jq
import pyarrow as pa
import pytest
from hooking import overdue
from hypothesis import given
from hypothesis import strategies as st
from key_steps import outcome_of, parted, told, working

from firehose.partitioning.step import AskingPartition, Partition

EMPTY = "partitionKeys values must not be null or empty"
NOT_JSON = "Non JSON record provided"
RECORDS = (
    b'{"a":"x"}', b'{"a":"\\u00fc/\\n"}', b'{"a":1}', b'{"a":1.10}', b'{"a":1e3}', b'{"a":-0}',
    b'{"a":100000000000000000001}', b'{"a":true}', b'{"a":false}', b'{"a":null}', b"{}", b'{"a":""}', b'{"a":[]}',
    b'{"a":{}}', b'{"a":"x","a":"y"}', b'{"a":{"b":"deep"}}', b'{"a":{"b":null}}', b' {"a" : "spaced"} \r\n',
    b'{"\\u0061":"escaped"}', b"null", b"[1]", b'"a"', b"7", b'{"a":1E400}',
)  # fmt: skip
NO_JSON = (
    b"", b" ", b"{", b"a", b'{"a":"x"} x', b'{"a":"x"}{"a":"y"}', b'{"a":"x","z":NaN}', b'{"a":"x","z":"\xff"}',
    b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":"x",}', b'{"a":"x","z":"\t"}',
    b'{"a":"x","z":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
)  # fmt: skip
QUERIES = (
    ".a", ".a.b", '.["a"]', ".a | tostring", '.a // "none"', ".a | if . == null then 7 else . end", "keys | length",
    ".a[0:1]", ".a[1:]", "[.a] | .[0]", '.a + "!"', ".", "empty", ".a, .a", ".a | error", ".a | halt_error", "input",
    "$__loc__.line # no more",
)  # fmt: skip


def jq_itself(query: str, record: bytes) -> str | None:
    """The key that jq makes of a record; None where that is none."""
    try:
        outputs: list[str] = jq.compile(f"(\n{query}\n) | tojson").input_text(record.decode()).all()
    except ValueError:
        return None
    value = json.loads(outputs[0], parse_float=str, parse_int=str) if len(outputs) == 1 else None
    if isinstance(value, bool):
        return outputs[0]
    return value if isinstance(value, str) and value else None


@pytest.fixture
async def closing() -> AsyncIterator[list[AskingPartition]]:
    made: list[AskingPartition] = []
    yield made
    for one in made:
        await one.close()


def opened(closing: list[AskingPartition], queries: dict[str, str]) -> Partition | AskingPartition:
    step = working(queries=queries)
    if isinstance(step, AskingPartition):
        closing.append(step)
    return step


@pytest.mark.parametrize("query", QUERIES)
async def test_values_are_those_of_jq(query: str, closing: list[AskingPartition]) -> None:
    """Whatever a record and a query are: the key is jq's text where that is one scalar, and there is none elsewhere."""
    step = opened(closing, {"k": query})
    outcome = await outcome_of(step, RECORDS)
    keys = {row: names["partitionKeyFromQuery"]["k"] for row, names in parted(outcome).items()}
    assert keys == {row: text for row, one in enumerate(RECORDS) if (text := jq_itself(query, one))}
    assert sorted([*keys, *told(outcome)]) == list(range(len(RECORDS)))


@pytest.mark.parametrize("query", [".a", ".a | tostring", "tojson"])
async def test_no_json(query: str, closing: list[AskingPartition]) -> None:
    """A record that is not exactly one JSON value is refused in AWS's words, whichever way its query is run."""
    step = opened(closing, {"k": query})
    assert told(await outcome_of(step, NO_JSON)) == dict.fromkeys(range(len(NO_JSON)), NOT_JSON)


async def test_plain_queries_need_no_worker() -> None:
    """A query that is a way to one value is answered in this process; any other one in a worker's."""
    assert isinstance(working(queries={"k": ".a.b", "l": '.["c d"]'}), Partition)
    assert isinstance(working(queries={"k": ".a | tostring"}), AskingPartition)


async def test_reasons(closing: list[AskingPartition]) -> None:
    """What is said of a refused record: AWS's words where there is no value, jq's where it failed."""
    plain = await outcome_of(
        working(queries={"k": ".a.b"}), [b"{}", b'{"a":{"b":""}}', b'{"a":"x"}', b'{"a":{"b":[]}}']
    )
    assert list(told(plain).values()) == [
        EMPTY,
        EMPTY,
        'Cannot index string with "b"',
        "partitionKeys values must be text, numbers or booleans, not arrays",
    ]
    asking = opened(closing, {"k": ".a[]"})
    asked = await outcome_of(asking, [b'{"a":[]}', b'{"a":[1,2]}', b'{"a":"x"}'])
    assert list(told(asked).values()) == [
        EMPTY,
        "the query yields more than one value",
        'Cannot iterate over string ("x")',
    ]
    assert set(plain.refused.table.column("error_type").to_pylist()) == {"metadata-extraction-failed"}
    assert set(plain.refused.table.column("code").to_pylist()) == {"DynamicPartitioning.MetadataExtractionFailed"}


async def test_several_queries(closing: list[AskingPartition]) -> None:
    """Each key has its own value, in the order of the configuration; records that agree in them share a partition."""
    queries = {"year": '.at | strftime("%Y")', "who": ".user.id", "both": '.user.id + "-" + .zone'}
    step = opened(closing, queries)
    records = [b'{"at":0,"user":{"id":"u"},"zone":"z","n":%d}' % n for n in range(3)]
    outcome = await outcome_of(step, [*records, b'{"at":"x","user":{"id":"u"},"zone":"z"}'])
    keys = {"partitionKeyFromQuery": {"year": "1970", "who": "u", "both": "u-z"}}
    assert parted(outcome) == {0: keys, 1: keys, 2: keys}
    assert told(outcome) == {3: "strftime/1 requires parsed datetime inputs"}
    assert len(outcome.rows.column("partition").dictionary) == 1


@pytest.mark.parametrize("whole", ["keys[0]", '"a"', ".", ".a?"])
async def test_some_queries_see_whole_records(whole: str, closing: list[AskingPartition]) -> None:
    """A query of fields finds them beside one that is handed whole records."""
    queries = {"plain": ".a", "whole": f"{whole} | tostring", "text": '.a + "!"', "asked": ".a | length | tostring"}
    outcome = await outcome_of(opened(closing, queries), [b'{"a":"x"}', b"no JSON", b'{"a":""}'])
    said = jq_itself(queries["whole"], b'{"a":"x"}')
    assert parted(outcome) == {0: {"partitionKeyFromQuery": dict(zip(queries, ["x", said, "x!", "1"], strict=True))}}
    assert told(outcome) == {1: NOT_JSON, 2: EMPTY}


@pytest.mark.parametrize("name", ['q"t', "b\\s", "t\tb", "\u00fc"])
async def test_names_that_json_escapes(name: str, closing: list[AskingPartition]) -> None:
    """A field is found whatever characters its name has, alone and beside another one."""
    record = {name: "x", "b": "y"}
    named = f".{json.dumps(name)}"
    step = opened(closing, {"k": named, "l": f"{named} + .b"})
    for records in ([json.dumps(record).encode()], [json.dumps(record, ensure_ascii=False).encode(), b'{"b":"y"}']):
        outcome = await outcome_of(step, records)
        assert parted(outcome) == {0: {"partitionKeyFromQuery": {"k": "x", "l": "xy"}}}
        assert told(outcome) == dict.fromkeys(range(1, len(records)), EMPTY)


async def test_control_characters_in_a_query(closing: list[AskingPartition]) -> None:
    """jq takes them in strings, where JSON does not."""
    step = opened(closing, {"k": '."t\tb"', "l": '.a + "\n" + ."t\tb"'})
    outcome = await outcome_of(step, [b'{"t\\tb":"x","a":"y"}', b'{"a":"y"}'])
    assert parted(outcome) == {0: {"partitionKeyFromQuery": {"k": "x", "l": "y\nx"}}}
    assert told(outcome) == {1: EMPTY}


async def test_a_query_that_never_ends(closing: list[AskingPartition], monkeypatch: pytest.MonkeyPatch) -> None:
    """The record at which a query loops is refused, as one without a key; the others have theirs."""
    overdue(monkeypatch, b'0 {"a":"loop"}')  # its query's number, and the record
    step = opened(closing, {"k": '.a | if . == "loop" then last(repeat(1)) else . end'})
    outcome = await outcome_of(step, [b'{"a":"x"}', b'{"a":"loop"}', b'{"a":"y"}'])
    assert [*parted(outcome)] == [0, 2]
    assert told(outcome) == {1: "it took longer than 20 seconds"}
    assert outcome.refused.table.column("error_type").to_pylist() == ["metadata-extraction-failed"]


async def test_handed_keys() -> None:
    """Of the keys that the user's code returned those count that a prefix names; without one there is no partition."""
    step = working("!{partitionKeyFromLambda:zone}/")
    meta = [
        '{"partitionKeys":{"zone":"eu","other":"x"}}',
        '{"partitionKeys":{}}',
        None,
        "no JSON",
        '{"partitionKeys":{"zone":""}}',
    ]
    outcome = await outcome_of(step, [b"any bytes \xff"] * 5, meta=pa.array(meta, pa.string()))
    assert parted(outcome) == {0: {"partitionKeyFromLambda": {"zone": "eu"}}}
    assert told(outcome) == dict.fromkeys(range(1, 5), EMPTY)
    assert told(await outcome_of(step, [b"x"])) == {0: EMPTY}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner)
)


@given(ANY)
async def test_any_value(value: object) -> None:
    """A way to a value finds what jq finds, whatever the record."""
    record = json.dumps(value).encode()
    outcome = await outcome_of(working(queries={"k": ".a.b"}), [record])
    found = jq_itself(".a.b", record)
    keys = [one["partitionKeyFromQuery"]["k"] for one in parted(outcome).values()]
    assert keys == ([found] if found else [])
