"""Patterns render as real Java renders them, over dates at the edges of years, weeks and summer times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.java_time import REFUSAL, InvalidPattern, compile_pattern

JAVA: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "java_time.json").read_text("utf-8"))
REFUSED_BY_FIREHOSE = "CIJPRTUVbfijloprt"  # firehose.md section 5.1
NOON = datetime(2026, 9, 30, 12, tzinfo=UTC)


def _cases() -> Iterator[tuple[str, list[datetime], list[str]]]:
    for table in JAVA["tables"]:
        instants = [
            datetime.fromisoformat(instant).astimezone(ZoneInfo(zone))
            for zone, instant in product(table["zones"], table["instants"])
        ]
        for pattern, values in table["values"].items():
            yield pattern, instants, values.split("|")


@pytest.mark.parametrize(("pattern", "instants", "expected"), [pytest.param(*case, id=case[0]) for case in _cases()])
def test_renders_as_java(pattern: str, instants: list[datetime], expected: list[str]) -> None:
    """Every pattern renders every instant in every zone as Java does."""
    render = compile_pattern(pattern)
    # As lists: instants of different zones may be equal.
    assert [f"{at} {value}" for at, value in zip(instants, expected, strict=True)] == [
        f"{at} {render(at)}" for at in instants
    ]


@pytest.mark.parametrize("pattern", JAVA["refused"].split(" "))
def test_refuses_what_java_refuses(pattern: str) -> None:
    """A pattern that Java does not compile is refused with AWS's text and a reason."""
    with pytest.raises(InvalidPattern, match=f"^{REFUSAL}: .") as caught:
        compile_pattern(pattern)
    assert str(caught.value) == f"{REFUSAL}: {caught.value.detail}"


@pytest.mark.parametrize("pattern", JAVA["accepted"].split(" "))
def test_accepts_what_java_accepts(pattern: str) -> None:
    """A pattern that Java compiles renders, apart from the two letters that Firehose refuses."""
    if set(pattern) & set(REFUSED_BY_FIREHOSE):
        with pytest.raises(InvalidPattern):
            compile_pattern(pattern)
    else:
        assert compile_pattern(pattern)(NOON) or set(pattern) <= set("[]")


@pytest.mark.parametrize("letter", REFUSED_BY_FIREHOSE)
def test_letters_refused_by_firehose_are_literal_in_quotes(letter: str) -> None:
    """Each letter that Firehose refuses names itself in the reason, and is plain text in single quotes."""
    with pytest.raises(InvalidPattern, match=f"'{letter}' is not a pattern letter"):
        compile_pattern(f"yyyy{letter}")
    assert compile_pattern(f"yyyy'{letter}'")(NOON) == f"2026{letter}"


def test_fractions_render_as_zeros() -> None:
    """Nothing below a second is ever printed."""
    at = NOON.replace(microsecond=987_654)
    assert compile_pattern("SSSSSSSSS n A N")(at) == "000000000 0 43200000 43200000000000"


def test_zone_names_are_never_guessed() -> None:
    """Where Java knows the name of a zone and Python does not, rendering refuses."""
    at = NOON.astimezone(ZoneInfo("America/Sao_Paulo"))  # Java: BRT
    for pattern in ("z", "zzzz", "v", "vvvv"):
        with pytest.raises(InvalidPattern, match="America/Sao_Paulo"):
            compile_pattern(pattern)(at)


@given(st.text(max_size=30))
def test_quoted_text_is_literal(text: str) -> None:
    """Any text between single quotes, its own quotes doubled, renders as itself."""
    quoted = "'" + text.replace("'", "''") + "'" if text else ""
    assert compile_pattern(quoted)(NOON) == text


@given(st.text(alphabet="yMdHms'[]{}# /é-TV", max_size=20))
def test_any_pattern_renders_or_is_refused(pattern: str) -> None:
    """A pattern either compiles and renders or raises `InvalidPattern`; nothing else comes out."""
    with suppress(InvalidPattern):
        assert isinstance(compile_pattern(pattern)(NOON), str)


@given(st.datetimes(datetime(1972, 1, 1), datetime(9999, 12, 24), timezones=st.just(UTC)))
def test_weeks_start_on_sunday(at: datetime) -> None:
    """From Sunday to Saturday, the days of a week share its year and number."""
    week = compile_pattern("YYYY-ww")
    sunday = at - timedelta(days=int(compile_pattern("e")(at)) - 1)
    assert compile_pattern("EEEE")(sunday) == "Sunday"
    assert {week(sunday + timedelta(days=day)) for day in range(7)} == {week(at)}


def test_streams_share_a_pattern() -> None:
    """A pattern that a thousand streams have is compiled once, and kept once."""
    assert compile_pattern("yyyy/MM/dd/HH/") is compile_pattern("yyyy/MM/dd/HH/")
