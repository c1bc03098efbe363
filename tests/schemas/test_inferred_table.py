"""Inference and conversion are of one opinion: what was inferred of records holds them, and asks for nothing more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batches import rows
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose.deserializers.plain import Plain
from firehose.json_table import JsonTable, Read
from firehose.schemas import inference
from firehose.table_schema import RESCUED

TEXTS = {
    "date": st.dates().map(str),
    "zulu": st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    "offset": st.datetimes().map(lambda at: at.isoformat(" ", "seconds") + "+02:00"),
    "local": st.datetimes().map(lambda at: at.isoformat(timespec="microseconds")),
    "words": st.text(st.characters(codec="utf-8"), max_size=5),
    "look-alikes": st.sampled_from(["2026-02-30", "2026-03-01T24:00:00Z", "0000-01-01", "2026-3-1", "12:00", ""]),
}
ALIKE: list[st.SearchStrategy[Any]] = [  # what a column holds of whose values none differs in kind
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-100, 100) | st.floats(-10, 10),
    st.one_of(*TEXTS.values()),
    *(TEXTS[name] for name in ("date", "zulu", "offset", "local")),
]


def _column() -> st.SearchStrategy[st.SearchStrategy[Any]]:
    """What one column may hold, at first and nested."""
    alike = st.sampled_from(ALIKE).map(lambda values: st.none() | values)
    return st.recursive(
        alike,
        lambda inner: (
            inner.map(lambda values: st.lists(values, max_size=3))
            | st.dictionaries(st.sampled_from(["x", "y", "Z z", "e`"]), inner, max_size=3).map(
                lambda fields: st.fixed_dictionaries({}, optional=fields)
            )
        ),
        max_leaves=5,
    )


@st.composite
def documents(draw: st.DrawFn) -> list[dict[str, Any]]:
    columns = draw(st.dictionaries(st.sampled_from(["a", "b", "C d", "é"]), _column(), max_size=3))
    return draw(st.lists(st.fixed_dictionaries({}, optional=columns), min_size=1, max_size=10))


def converted(found: list[Any], full: bool = False) -> Read:
    given = rows([one if isinstance(one, bytes) else json.dumps(one).encode() for one in found])
    schema = inference.widened(None, [given])
    return JsonTable(schema, Plain(), grows=True, full=full).read(given)


@settings(deadline=None, max_examples=100)
@given(documents())
def test_nothing_is_rescued(found: list[dict[str, Any]]) -> None:
    """Where the values of each place are alike, every one of them fits the type that was inferred for it."""
    read = converted(found)
    assert read.table.num_rows == len(found)
    assert [text for text in read.table.column(RESCUED).to_pylist() if text and not _impossible(text)] == []


def _impossible(text: str) -> bool:
    """Days that no calendar has look like days."""
    return any(day in text for day in ("2026-02-30", "0000-01-01"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.one_of(*TEXTS.values()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "A", "b"]), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(st.sampled_from("abAcd"), VALUES, max_size=4), min_size=1, max_size=10))
def test_nothing_is_asked_for(found: list[dict[str, Any]]) -> None:
    """Whatever records hold: once all of them have been looked at, no column or field is unforeseen."""
    read = converted(found)
    assert read.table.num_rows + len(read.refused) == len(found)


@pytest.mark.parametrize("name", ["x" * 256, "y" * 1_000_000, "a\nb", RESCUED.upper()], ids=lambda name: name[:8])
def test_what_can_be_no_column(name: str) -> None:
    """A name that can be no column's is asked for at most once: where the batch is whole, it is rescued."""
    read = converted([{name: 1, "ok": 2}], full=True)
    (rescued,) = read.table.column(RESCUED).to_pylist()
    assert json.loads(rescued) == {name: 1}
