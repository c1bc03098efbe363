"""Keys by column: values as folders show them, units of time, and what Hive has for a record without a value."""

from __future__ import annotations

import pytest
from key_steps import SITE, outcome_of, parted, told, working

from destinations.folder import FolderOptions
from firehose.partitioning import step
from firehose.partitioning.columns import NO_VALUE, Column
from firehose.partitioning.options import PartitioningOptions
from firehose.partitioning.step import AskingPartition

AT = "2026-11-22T09:30:00"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("country", "country"),
        ("user.id", "user_id"),
        ('"a.b".c', "a.b_c"),
        ("day(ts)", "ts_day"),
        (" hour( event.at ) ", "event_at_hour"),
    ],
)
def test_names(text: str, name: str) -> None:
    """A column's name in folders tells the field and the unit."""
    assert Column.parsed(text).name == name


@pytest.mark.parametrize("text", ["", "week(ts)", "day()", "day(ts", "day(hour(ts))", "a..b", "day(a,b)x"])
def test_no_column(text: str) -> None:
    """What is no column is refused."""
    with pytest.raises(ValueError, match=r"is no (column|path)"):
        Column.parsed(text)


@pytest.mark.parametrize(
    ("column", "record", "value"),
    [
        ("c", '{"c":"DE"}', "DE"),
        ("c", '{"c":"\\u00e4 /=%"}', "ä /=%"),
        ("c", '{"c":200}', "200"),
        ("c", '{"c":-1.50}', "-1.50"),
        ("c", '{"c":true}', "true"),
        ("c", '{"c":null}', NO_VALUE),
        ("c", '{"c":""}', NO_VALUE),
        ("c", "{}", NO_VALUE),
        ("c.d", '{"c":{"d":"x"}}', "x"),
        ("c.d", '{"c":{}}', NO_VALUE),
        ("c.d", '{"c":null}', NO_VALUE),
        ("day(c)", "{}", NO_VALUE),
    ],
)
async def test_values(column: str, record: str, value: str) -> None:
    """Strings are as they say, other scalars as they are written; nothing, null and empty are Hive's default."""
    assert await value_of(column, record) == value


@pytest.mark.parametrize(
    ("unit", "value"), [("year", "2026"), ("month", "2026-11"), ("day", "2026-11-22"), ("hour", "2026-11-22-09")]
)
async def test_units(unit: str, value: str) -> None:
    """A time is cut down to its unit."""
    assert await value_of(f"{unit}(ts)", f'{{"ts":"{AT}Z"}}') == value


@pytest.mark.parametrize(
    "written",
    [
        *(f'"{AT}"', f'"{AT}Z"', f'"{AT}.123456789Z"', '"2026-11-22 09:30"', '"2026-11-22 09:30:00,5"'),
        *(f'"{AT}+00:00"', '"2026-11-22T11:30:00+02:00"', '"2026-11-22T04:00:00-0530"', '"2026-11-22T10:30:00+01"'),
        *(
            "1795339800",
            "1795339800.25",
            "1.7953398E+9",
            "1795339800.0123456789",
            "1795339800000",
            '"1795339800"',
            '"1795339800000"',
        ),
    ],
)
async def test_times(written: str) -> None:
    """ISO 8601 with and without a zone, seconds and milliseconds since 1970, as numbers or as text, all in UTC."""
    assert await value_of("hour(ts)", f'{{"ts":{written}}}') == "2026-11-22-09"


@pytest.mark.parametrize(
    ("written", "value"),
    [("-1", "1969-12-31"), ("0", "1970-01-01"), ('"0001-01-01"', "0001-01-01"), ("253402300799", "9999-12-31")],
)
async def test_far_times(written: str, value: str) -> None:
    """The first and the last days that have a date."""
    assert await value_of("day(ts)", f'{{"ts":{written}}}') == value


@pytest.mark.parametrize(
    "written",
    [
        *(
            '"yesterday"',
            '"2026-02-30"',
            '"2026-1-2"',
            '"0001-01-01T00:00:00+01:00"',
            '"\u0662\u0660\u0662\u0666-01-01"',
        ),
        *("true", "1e99", "999999999999999"),
    ],
)
async def test_no_time(written: str) -> None:
    """What is no time is refused and shown."""
    outcome = await outcome_of(working(columns=["day(ts)"]), [f'{{"ts":{written}}}'.encode()])
    assert told(outcome)[0].startswith("ts_day: ")
    assert told(outcome)[0].endswith(" is no time")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"text", "Non JSON record provided"),
        (b'{"c":NaN}', "Non JSON record provided"),
        (b'{"c":[1]}', "c: arrays are no partitions"),
        (b'{"c":{"d":1}}', "c: objects are no partitions"),
        (b"[1]", 'Cannot index array with "c"'),
    ],
)
async def test_refused(record: bytes, message: str) -> None:
    """Records without a plain value, or that are none, go to the error output."""
    assert told(await outcome_of(working(columns=["c"]), [record])) == {0: message}


async def value_of(column: str, record: str) -> str:
    outcome = await outcome_of(working(columns=[column]), [record.encode()])
    assert told(outcome) == {}
    return parted(outcome)[0]["column"][Column.parsed(column).name]


async def test_times_side_by_side() -> None:
    """Times that agree to the hour are not taken for one another where one of them is none, or has another zone."""
    written = ["09:30:00Z", "09:30:61Z", "09:59:59.5Z", "09:30:00+10:00", "24:00:00Z", "09:30", "09"]
    records = [f'{{"ts":"2026-11-22T{one}"}}'.encode() for one in written]
    outcome = await outcome_of(working(columns=["hour(ts)"]), records)
    hours = {row: keys["column"]["ts_hour"] for row, keys in parted(outcome).items()}
    assert hours == {0: "2026-11-22-09", 2: "2026-11-22-09", 3: "2026-11-21-23", 5: "2026-11-22-09"}
    assert [*told(outcome)] == [1, 4, 6]


async def test_keys_in_any_case() -> None:
    """Where a destination reads keys in any case, so are folders made: its files leave out what these tell."""
    schema = {"columns": {"c": "string"}}
    reading = FolderOptions.model_validate(
        {"type": "folder", "path": "out", "format": {"type": "parquet", "deserializer": "openx", "schema": schema}}
    )
    records = [b'{"C":"a"}', b'{"c":"b"}', b'{"c":null,"C":"c"}', b'{"x":{"C":1}}', b'{"C":1,"X":{"Y":"d"}}', b"no"]
    for queries in ({}, {"k": '.e // "x" | ascii_upcase'}, {"k": '. | "X"'}):
        options = PartitioningOptions.model_validate({"columns": ["c", "x.y"], "queries": queries})
        made = step.step(options, [reading], SITE)
        outcome = await outcome_of(made, records)
        if isinstance(made, AskingPartition):
            await made.close()
        found = [(keys["column"]["c"], keys["column"]["x_y"]) for keys in parted(outcome).values()]
        assert found == [("a", NO_VALUE), ("b", NO_VALUE), ("c", NO_VALUE), (NO_VALUE, NO_VALUE), ("1", "d")]
        assert list(told(outcome)) == [5]
