"""The transforms that run people's queries, in real worker processes: what loops or eats memory costs its records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from batches import rows
from hooking import overdue
from sites import site

from firehose.hooks.workers import Workers
from firehose.model import Outcome
from firehose.runtime import Runtime, Threads
from transforms.jq import Jq, JqOptions
from transforms.sql import Sql, SqlOptions

HUNGRY = 'if . == 2 then "x" * (. * 1000000000) else . end'
ENDLESS = "if . == 2 then last(repeat(1)) else . end"


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 1)
    yield pool
    pool.close()


@asynccontextmanager
async def at_work(make: Callable[[], Workers]) -> AsyncIterator[Workers]:
    hook = make()
    try:
        yield hook
    finally:
        await hook.close()


def ends(outcome: Outcome) -> tuple[list[bytes], list[tuple[int, str]], list[int]]:
    """Records delivered, rows refused with their codes, rows dropped."""
    table = outcome.refused.table
    refused = zip(table.column("row").to_pylist(), table.column("code").to_pylist(), strict=True)
    return outcome.rows.column("record").to_pylist(), list(refused), outcome.dropped.to_pylist()


async def test_jq(threads: Threads) -> None:
    """A jq query works in its process as it does anywhere."""
    options = JqOptions(query="select(. != 2) | if . == 3 then error else [., $ENV.KEY] end", environment={"KEY": "k"})
    async with at_work(lambda: Jq(options, site(threads))) as hook:
        outcome = await hook.outcome(rows([b"1\n", b"2\n", b"3\n", b"x", b"4.10\n"]))
    assert ends(outcome) == ([b'[1,"k"]\n', b'[4.10,"k"]\n'], [(2, "Jq.Error"), (3, "Jq.NotJson")], [1])


@pytest.mark.parametrize("query", [ENDLESS, HUNGRY])
async def test_jq_out_of_bounds(query: str, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record on which a query loops for ever, or eats all memory, is refused, and no other."""
    if query == ENDLESS:
        overdue(monkeypatch, b"2")
    options = JqOptions(query=query, memory_mib=64, attempts=1)
    async with at_work(lambda: Jq(options, site(threads))) as hook:
        delivered, refused, dropped = ends(await hook.outcome(rows([b"1", b"2", b"3"])))
    assert (delivered, [row for row, _ in refused], dropped) == ([b"1", b"3"], [1], [])


async def test_sql(threads: Threads) -> None:
    """A SQL query works in its process as it does anywhere."""
    options = SqlOptions(query="SELECT a::INTEGER AS a, unnest(range(b)) AS i FROM records")
    async with at_work(lambda: Sql(options, site(threads))) as hook:
        given = rows([b'{"a":"1","b":2}\n', b'{"a":"x","b":1}', b'{"a":"3","b":0}', b"x"])
        outcome = await hook.outcome(given)
    delivered = [b'{"a":1,"i":0}\n', b'{"a":1,"i":1}\n']
    assert ends(outcome) == (delivered, [(1, "Sql.Error"), (3, "Sql.NotJson")], [2])


async def test_sql_without_end(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that never comes back is stopped, and its records are refused."""
    overdue(monkeypatch, b'{"a":2}', by_record=False)
    forever = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT max(i) FROM n)"
    options = SqlOptions(query=f"SELECT CASE WHEN a = 2 THEN {forever} + a END AS a FROM records", attempts=1)
    async with at_work(lambda: Sql(options, site(threads))) as hook:
        delivered, refused, dropped = ends(await hook.outcome(rows([b'{"a":2}'])))
    assert (delivered, refused, dropped) == ([], [(0, "Lambda.FunctionTimedOut")], [])
