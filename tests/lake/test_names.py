"""A stream's own objects are known by their names among all that may lie beside them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from firehose.lake.names import columns, is_data
from firehose.model import Segment
from firehose.naming import ObjectNames

SEGMENT = Segment("my-stream", "k3x9", 4000, 250, 5_000, datetime(2026, 1, 31, 23, 59, 7, 987_654, UTC), 1)
QUERY = "!{partitionKeyFromQuery:customer}"
LAMBDA = "!{partitionKeyFromLambda:region}"
KEYS = {"partitionKeyFromQuery": {"customer": "acme"}, "partitionKeyFromLambda": {"region": "eu"}}


def known(names: ObjectNames, name: str, stream: str) -> bool:
    return is_data(name, stream, names, ZoneInfo(names.time_zone))


DATED = [None, "app/", "app", "dt=!{timestamp:yyyy-MM-dd}/", "!{firehose:random-string}/!{timestamp:yyyy}/"]
INSTANTS = [
    SEGMENT.opened_at,
    *(datetime(2026, *one, 30, tzinfo=UTC) for one in ((10, 25, 0), (10, 25, 1), (4, 4, 15))),
]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("prefix", [*DATED, "a/!{timestamp:HH:mm:ss.SSS}/", f"c={QUERY}/r={LAMBDA}/", f"c={QUERY}"])
def test_a_data_object_is_known_by_its_name(prefix: str | None, zone: str) -> None:
    """A stream's own data objects are told from all others, whatever their extension, in every hour of the year."""
    names = ObjectNames(prefix, time_zone=zone, extension=".gz")
    for instant in INSTANTS:
        name = names.data(replace(SEGMENT, opened_at=instant), KEYS)
        assert known(names, name, "my-stream")
        assert known(names, name.removesuffix(".gz") + ".parquet", "my-stream")
        strangers = [f"else/{name}", f"{name}/else", name.replace("-5", "-4")]
        strangers += [name.replace("2026", "2025", 1)] if prefix in DATED else []
        assert [one for one in strangers if known(names, one, "my-stream")] == []
        if prefix != f"c={QUERY}":  # which leaves open where the key ends and the stream's name begins
            assert not known(names, name, "stream")


def test_what_is_no_data() -> None:
    """Error objects, objects under another prefix, schemas and unfinished files are none of the stream's data."""
    names = ObjectNames("app/", extension=".gz")
    others = [
        names.error(SEGMENT, "processing-failed"),
        ObjectNames("app/raw/").data(SEGMENT),
        ObjectNames("app/!{timestamp:yyyy}/").data(SEGMENT),
        names.data(replace(SEGMENT, stream="other")),
        "app/_schemas/my-stream-v0002.json",
        ".partial/5e3c",
        "",
        names.data(SEGMENT).replace("-23-59-", "-23-99-"),
    ]
    assert [name for name in others if known(names, name, "my-stream")] == []


def test_folders_of_columns_are_data() -> None:
    """Folders such as `day=2026-03-01` stand for the date behind the prefix, or follow it."""
    names = ObjectNames("app/")
    file = names.data(SEGMENT).rpartition("/")[2]
    assert known(names, f"app/ts_day=2026-01-31/country=DE/{file}", "my-stream")
    assert not known(names, f"app/ts_day=2026-01-31/x/{file}", "my-stream")
    assert known(ObjectNames("dt=!{timestamp:yyyy-MM-dd}/"), f"dt=2026-01-31/country=a%2Fb/{file}", "my-stream")


def test_columns() -> None:
    """Folders that are a key and a value are columns, decoded; nothing else of a name is."""
    assert columns("a/dt=2026-03-01/x%y=1/country=a%2Fb/=1/two words=3/k=/file=1.gz") == {
        "dt": "2026-03-01",
        "country": "a/b",
        "two words": "3",
        "k": "",
    }
