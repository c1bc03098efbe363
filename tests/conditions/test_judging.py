"""Conditions of destinations: what jq and SQL say of a record, and what becomes of one that they cannot judge."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from batches import rows
from hooking import overdue
from sites import site

from firehose.conditions import making
from firehose.conditions.by_jq import AskedJq, QuickJq, condition
from firehose.conditions.by_sql import AskedSql
from firehose.conditions.judging import AskedCondition, Condition, Judgement, gathered
from firehose.conditions.options import Where
from firehose.runtime import Runtime

RECORDS = (
    b'{"level":"error","n":1,"tags":["a","b"]}\n',
    b'{"level":"info","n":10,"tags":[]}',
    b'{"n":7}',
    b'{"level":null,"n":0}',
    b'{"level":false,"n":-3,"account":{"id":"u1"}}',
)
Conditions = list[Condition | AskedCondition]


@pytest.fixture
async def made() -> AsyncIterator[Conditions]:
    """Whatever a test appends is closed."""
    conditions: Conditions = []
    yield conditions
    for one in conditions:
        await one.close()


async def judged(made: Conditions, records: tuple[bytes, ...] = RECORDS, **where: str) -> Judgement:
    threads = Runtime().threads("test", 2)
    made.append(making.condition(Where.model_validate(where), site(threads)))
    one, given = made[-1], rows(records)
    return await one.ask(given) if isinstance(one, AskedCondition) else one.judge(given)


JQ = (
    ('.level == "error"', [True, False, False, False, False]),
    ('.level != "error"', [False, True, True, True, True]),
    (".level", [True, True, False, False, False]),
    (".n > 5", [False, True, True, False, False]),
    ('select(.level == "error")', [True, False, False, False, False]),
    ("empty", [False] * 5),
    ('(.tags // []) | any(. == "b")', [True, False, False, False, False]),
    ('.account.id == "u1" or (.n == 7 and .level == null)', [False, False, True, False, True]),
    ('has("level") | not', [False, False, True, False, False]),
    ("(.level, .n) > 5", [True, True, True, False, False]),  # several outputs: one is enough
    ('.level | . != null and (tostring | test("^e"))', [True, False, False, False, False]),
    ('(if .off then null end).level == "error"', [True, False, False, False, False]),  # without else: what came
    ('."q\\"t" == null and .n == 7', [False, False, True, False, False]),
    ("[range(.n)] | length > 5", [False, True, True, False, False]),
)


@pytest.mark.parametrize(("query", "wanted"), JQ)
async def test_jq(query: str, wanted: list[bool], made: Conditions) -> None:
    """A record matches where the query yields anything but false and null, asked here or of a worker."""
    said = await judged(made, jq=query)
    assert (said.matches.tolist(), said.flaws) == (wanted, {})


@pytest.mark.parametrize(("query", "wanted"), JQ)
async def test_jq_in_a_worker(query: str, wanted: list[bool], made: Conditions) -> None:
    """A worker says of a record what would be said here."""
    made.append(asked := AskedJq(query, site(Runtime().threads("test", 2))))
    assert (await asked.ask(rows(RECORDS))).matches.tolist() == wanted


SQL = (
    ("CAST(level AS VARCHAR) = 'error'", [True, False, False, False, False]),
    ("n > 5", [False, True, True, False, False]),
    ("level IS NULL", [False, False, True, True, False]),
    ("nowhere = 1", [False] * 5),  # NULL is no match
    ("n BETWEEN 0 AND 7 OR account IS NOT NULL", [True, False, True, True, True]),
    ("_record LIKE '%u1%'", [False, False, False, False, True]),
    ("_arrival >= TIMESTAMPTZ '2026-03-01 12:00:00+00'", [True] * 5),
)


@pytest.mark.parametrize(("text", "wanted"), SQL)
async def test_sql(text: str, wanted: list[bool], made: Conditions) -> None:
    """A record matches where the condition is true over its fields; where it is NULL it does not."""
    said = await judged(made, sql=text)
    assert (said.matches.tolist(), said.flaws) == (wanted, {})


@pytest.mark.parametrize("where", [{"jq": ".n > 5"}, {"jq": "[.n] | first > 5"}, {"sql": "n > 5"}])
async def test_no_json(where: dict[str, str], made: Conditions) -> None:
    """What is no JSON can be judged by nobody: it is no match, the reason says why, and its neighbours are judged."""
    said = await judged(made, (b'{"n":6}', b"plain text", b'{"n":6}', b'{"n":'), **where)
    assert said.matches.tolist() == [True, False, True, False]
    assert {at: code for at, (code, _) in said.flaws.items()} == {1: "Where.NotJson", 3: "Where.NotJson"}
    assert all("mend its sender" in message for _, message in said.flaws.values())


async def test_error_of_jq(made: Conditions) -> None:
    """A record at which the query fails is told with jq's own words and the way out."""
    said = await judged(made, (b'{"a":{"b":1}}', b'{"a":"text"}'), jq=".a.b == 1")
    assert said.matches.tolist() == [True, False]
    assert said.flaws[1][0] == "Where.Error"
    assert "Cannot index string" in said.flaws[1][1]
    assert "; mend the condition" in said.flaws[1][1]


async def test_error_of_sql(made: Conditions) -> None:
    """Where SQL fails it does so for those records alone whose fault it is."""
    said = await judged(made, (b'{"a":"1"}', b'{"a":"x"}', b'{"a":"3"}'), sql="CAST(a AS INTEGER) > 1")
    assert (said.matches.tolist(), list(said.flaws)) == ([False, False, True], [1])
    assert said.flaws[1][0] == "Where.Error"


async def test_neighbours_of_other_types(made: Conditions) -> None:
    """What a condition says of a record does not depend on the types that its neighbours' fields have."""
    records = (b'{"n":6}', b'{"n":"6"}', b'{"n":true}', b'{"n":{"m":1}}', b'{"n":6.5}', b'{"n":6' + b"0" * 40 + b"}")
    made.append(asked := AskedSql("n > 5", site(Runtime().threads("test", 2))))
    alone = [await asked.ask(rows((one,))) for one in records]
    said = await asked.ask(rows(records))
    assert said.matches.tolist() == [one.matches[0] for one in alone]
    assert said.matches[[0, 4]].all()
    assert said.flaws == {at: one.flaws[0] for at, one in enumerate(alone) if one.flaws}


async def test_endless_query(made: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that loops costs only the record at which it does."""
    overdue(monkeypatch, b'{"n":0}')
    said = await judged(made, (b'{"n":1}', b'{"n":0}'), jq=".n | until(. > 0; .)")
    assert (said.matches.tolist(), list(said.flaws)) == ([True, False], [1])


@pytest.mark.parametrize(
    ("query", "quick"),
    [
        (".a.b[0] == 1 and (.c | not)", True),
        ('.a | if . == "x" then true else empty end', True),
        ('.a | test("(x+)+y")', False),
        (".a | until(. > 1; .)", False),
        ("[.a[], .a[]] | length", False),
        (". * 1000000000", False),
        ("def f: f; f", False),
        ("..", False),
        ('"\\(.a)"', False),
    ],
)
def test_only_what_ends_soon_is_asked_here(query: str, quick: bool) -> None:
    """A query that might loop, or make more than it is given, is left to a worker."""
    assert isinstance(condition(query, site(Runtime().threads("test", 1))), QuickJq if quick else AskedJq)


def test_each_slice_gets_its_part() -> None:
    """Slices are put together for a question, and what is said of them is taken apart again."""
    slices = [rows(RECORDS[:2]), rows(RECORDS[2:2]), rows(RECORDS[2:])]
    (group,) = gathered(slices)
    assert pa.concat_batches(group).num_rows == len(RECORDS)
    whole = condition(".n > 5", site(Runtime().threads("test", 1)))
    assert isinstance(whole, QuickJq)
    said = whole.judge(pa.concat_batches(group)).each([one.num_rows for one in slices])
    assert [one.matches.tolist() for one in said] == [[False, True], [], [True, False, False]]


def problem(where: Any) -> str:
    """What is said of a condition in a file."""
    from firehose import config
    from firehose.yaml_file import ConfigError

    text = f"delivery_streams: {{app: {{destination: {{type: folder, path: out, where: {json.dumps(where)}}}}}}}"
    with pytest.raises(ConfigError) as told:
        config.parse("f.yaml", text)
    (one,) = told.value.problems
    assert one.path.startswith("delivery_streams.app.destination.where")
    return one.message


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (".level ==", "invalid jq: syntax error"),
        ("now > .t", "now may say something else when the same record is judged again"),
        ("$ENV.A == .t", "$ENV may say something else"),
        ("input", "input may say something else"),
        ({"sql": "now() > t"}, "now may say something else"),
        ({"sql": "current_date > t"}, "current_date may say something else"),
        ({"sql": "random() > 0.5"}, "random may say something else"),
        ({"sql": "age(t) > INTERVAL 1 DAY"}, "age may say something else"),
        ({"sql": "n > (SELECT avg(n) FROM records)"}, "a condition looks at one record alone: leave out avg"),
        ({"sql": "n > (SELECT 1)"}, "leave out subqueries and window functions"),
        ({"sql": "row_number() OVER () > 1"}, "leave out subqueries and window functions"),
        ({"sql": "count(*) > 1"}, "leave out count_star"),
        ({"sql": "n >"}, "syntax error"),
        ({"sql": "true) ORDER BY (n"}, "it must be a condition, as behind WHERE"),
        ({"sql": "n; DROP TABLE x"}, "syntax error"),
        ({}, "give a jq condition or an sql condition, one of them"),
        ({"jq": ".", "sql": "n"}, "give a jq condition or an sql condition, one of them"),
        (3, "must be a mapping of keys to values"),
    ],
)
def test_what_is_refused(where: Any, said: str) -> None:
    """A condition that is wrong, looks beyond its record, or would not say the same again is refused with the file."""
    assert said in problem(where)


@pytest.mark.parametrize("where", [".now > 3", '.x == "now"', "{now: .x} | .now", {"sql": "now > 3"}])
def test_fields_may_be_called_anything(where: Any) -> None:
    """A field that is called as a function is no function."""
    from firehose import config

    text = f"delivery_streams: {{app: {{destination: {{type: folder, path: out, where: {json.dumps(where)}}}}}}}"
    assert config.parse("f.yaml", text).streams["app"].destinations["folder"].where is not None
