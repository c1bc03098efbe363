"""Partitions: their names, and which are active."""

from __future__ import annotations

from firehose import partitions
from firehose.partitions import ActivePartitions


def test_round_trip() -> None:
    """A partition's text tells its keys and values again, whatever is in them."""
    keys = [("partitionKeyFromQuery", "customer", 'a"/ü\n'), ("partitionKeyFromLambda", "day", "1")]
    assert partitions.decode(partitions.encode(keys)) == {
        "partitionKeyFromQuery": {"customer": 'a"/ü\n'},
        "partitionKeyFromLambda": {"day": "1"},
    }


def test_columns_in_path() -> None:
    """The columns that folders tell are known by name; keys of other kinds, and what is made of a field, are none."""
    day = ("column", "ts_day", "2026-11-22", "day(ts)")
    keys = [("partitionKeyFromQuery", "c", "x"), day, ("column", "country", "DE")]
    assert partitions.columns_in_path(partitions.encode(keys)) == ("country",)
    assert partitions.columns_in_path(partitions.encode(keys[:1])) == partitions.columns_in_path("") == ()
    assert partitions.decode(partitions.encode(keys))["column"] == {"ts_day": "2026-11-22", "country": "DE"}


def test_limit() -> None:
    """No more partitions are opened than the limit allows beside those with rows still to deliver."""
    active = ActivePartitions()
    waiting = {"a", "b"}
    active.follow("s", "d", lambda: waiting)
    active.making("s", 1)
    assert active.admit("s", ["b", "c", "d"], limit=3) == {"d"}
    assert active.admit("s", ["c", "e"], limit=3) == {"e"}
    active.made("s", 1)
    assert active.admit("s", ["e"], limit=3) == set()
    assert active.counted() == {"s": 2}


def test_streams_apart() -> None:
    """One stream's partitions do not count against another's limit."""
    active = ActivePartitions()
    active.follow("one", "d", lambda: {"a", "b"})
    assert active.admit("two", ["c"], limit=1) == set()


def test_opened_until_the_tables_know() -> None:
    """What an outcome opens counts until that outcome is in the tables, however many others begin and end meanwhile."""
    active = ActivePartitions()
    active.making("s", "first")
    assert active.admit("s", ["a"], limit=2) == set()
    active.making("s", "second")
    assert active.admit("s", ["b"], limit=2) == set()
    active.made("s", "second")
    assert active.admit("s", ["c"], limit=2) == {"c"}
    active.made("s", "first")
    assert active.admit("s", ["c", "d"], limit=2) == set()
