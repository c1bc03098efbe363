"""Puts a destination's `where` to work. Apart from its options, which every reader of a configuration needs."""

from __future__ import annotations

from firehose.conditions import by_jq
from firehose.conditions.judging import AskedCondition, Condition
from firehose.conditions.options import Where
from firehose.registry import Site


def condition(where: Where, site: Site) -> Condition | AskedCondition:
    if where.jq is not None:
        return by_jq.condition(where.jq, site)
    from firehose.conditions import by_sql  # now: DuckDB takes a while that most services need not spend

    assert where.sql is not None
    return by_sql.AskedSql(where.sql, site)
