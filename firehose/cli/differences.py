"""How what became of a case's records differs from what the case expects. Pure: nothing is run, nothing printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from firehose.cli.cases import NOTHING, Case, Refusal, Wanted, between_slashes, compact
from firehose.model import Outcome

SHOWN = 10  # differences within one JSON record that are told
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as expected; None stands for nothing at all. `record` is the number of the given record."""

    place: str
    record: int | None
    expected: bytes | None
    came: bytes | None


@dataclass(frozen=True, slots=True)
class Out:
    """A record that came out, or that was refused, and the number of the given record that it comes from."""

    row: int
    record: bytes
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dead:
    """A record that went to the error output."""

    row: int
    code: str
    message: str


def delivered(outcome: Outcome) -> list[Out]:
    rows = outcome.rows
    metas = rows.column("meta").to_pylist() if "meta" in rows.schema.names else [None] * rows.num_rows
    found = zip(rows.column("row").to_pylist(), rows.column("record").to_pylist(), metas, strict=True)
    return [Out(row, record, _keys(meta)) for row, record, meta in found]


def refused(outcome: Outcome) -> list[Dead]:
    table = outcome.refused.table.sort_by("row").select(["row", "code", "message"])
    return [Dead(*row.values()) for row in table.to_pylist()]


def _keys(meta: str | None) -> Mapping[str, str]:
    keys: Mapping[str, str] = json.loads(meta or "{}").get("partitionKeys", {})
    return keys


def differences(case: Case, outcome: Outcome) -> Iterator[Difference]:
    """Everything that is not as the case expects it."""
    for place, wanted, out in _paired("output", case.output, delivered(outcome), _is_as_wanted):
        yield from _of_output(place, wanted, out)
    yield from _of_dropped(case.dropped, sorted(outcome.dropped.to_pylist()))
    for place, refusal, dead in _paired("refused", case.refused, refused(outcome), _is_refused_so):
        row = dead.row if dead is not None else refusal.record if refusal is not None else None
        yield Difference(place, row, _refusal(refusal), _dead(dead))


def _paired(
    name: str, expected: Sequence[T], came: Sequence[U], fits: Callable[[T, U], bool]
) -> Iterator[tuple[str, T | None, U | None]]:
    """Pairs that do not fit. Where one more or less came than expected, what stands before and behind it is none."""
    most = min(len(expected), len(came))
    if len(expected) == len(came):
        before, behind = 0, 0
    else:
        before = next((n for n in range(most) if not fits(expected[n], came[n])), most)
        rest = most - before
        behind = next((n for n in range(rest) if not fits(expected[-1 - n], came[-1 - n])), rest)
    for index in range(before, max(len(expected), len(came)) - behind):
        one = expected[index] if index < len(expected) - behind else None
        other = came[index] if index < len(came) - behind else None
        if one is None or other is None or not fits(one, other):
            yield f"{name}[{index}]", one, other


def _is_as_wanted(wanted: Wanted, out: Out) -> bool:
    return not list(_of_output("", wanted, out))


def _of_output(place: str, wanted: Wanted | None, out: Out | None) -> Iterator[Difference]:
    row = None if out is None else out.row
    if wanted is None or out is None:
        yield Difference(place, row, _wanted(wanted), None if out is None else out.record)
        return
    if wanted.value is not NOTHING:
        yield from _of_json(place, out, wanted.value)
    elif wanted.record is not None and wanted.record != out.record:
        yield Difference(place, row, wanted.record, out.record)
    if wanted.keys is not None and wanted.keys != out.keys:
        yield Difference(f"{place}.partition_keys", row, compact(dict(wanted.keys)), compact(dict(out.keys)))


def _of_json(place: str, out: Out, expected: Any) -> Iterator[Difference]:
    try:
        came = json.loads(out.record, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        yield Difference(place, out.row, compact(expected), out.record)
        return
    for count, (path, one, other) in enumerate(unequal(place, expected, came)):
        if count == SHOWN:
            yield Difference(f"{place}, and more of it", out.row, compact(expected), out.record)
            return
        yield Difference(path, out.row, _shown(one), _shown(other))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def unequal(path: str, expected: Any, came: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, with `NOTHING` for what one of them lacks. The order of members says nothing."""
    if isinstance(expected, dict) and isinstance(came, dict):
        for key in [*expected, *(key for key in came if key not in expected)]:
            yield from unequal(f"{path}.{key}", expected.get(key, NOTHING), came.get(key, NOTHING))
    elif isinstance(expected, list) and isinstance(came, list):
        for index in range(max(len(expected), len(came))):
            pair = (one[index] if index < len(one) else NOTHING for one in (expected, came))
            yield from unequal(f"{path}[{index}]", *pair)
    elif isinstance(expected, bool) != isinstance(came, bool) or expected != came:  # to Python, true equals 1
        yield path, expected, came


def _shown(value: Any) -> bytes | None:
    return None if value is NOTHING else compact(value)


def _wanted(wanted: Wanted | None) -> bytes | None:
    if wanted is None:
        return None
    if wanted.value is not NOTHING:
        return compact(wanted.value)
    return b"a record" if wanted.record is None else wanted.record


def _of_dropped(expected: int | tuple[int, ...], came: list[int]) -> Iterator[Difference]:
    if expected not in (len(came), tuple(came)):
        yield Difference("dropped", None, _numbered(expected), _numbered(tuple(came)))


def _numbered(dropped: int | tuple[int, ...]) -> bytes | None:
    if not dropped:
        return None
    if isinstance(dropped, int):
        return b"%d records" % dropped if dropped > 1 else b"a record"
    return f"record{'s' if len(dropped) > 1 else ''} {', '.join(map(str, dropped))}".encode()


def _is_refused_so(refusal: Refusal, dead: Dead) -> bool:
    if refusal.record not in (None, dead.row) or refusal.code not in (None, dead.code):
        return False
    if refusal.message is None:
        return True
    pattern = between_slashes(refusal.message)
    return refusal.message in dead.message if pattern is None else bool(re.search(pattern, dead.message))


def _refusal(refusal: Refusal | None) -> bytes | None:
    if refusal is None:
        return None
    record = "a record" if refusal.record is None else f"record {refusal.record}"
    return ": ".join(part for part in (record, refusal.code, refusal.message) if part).encode()


def _dead(dead: Dead | None) -> bytes | None:
    return None if dead is None else f"record {dead.row}: {dead.code}: {dead.message}".encode()
