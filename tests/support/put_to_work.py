"""A transform as a stream would put it to work: its options read, its site given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batches import rows
from sites import site
from virtual_time import Inline

from firehose.contracts import Transform
from firehose.model import Outcome
from firehose.stream_config import TransformBlock


def working(kind: Any, **keys: object) -> Transform:
    """The transform of that class with these keys of its block."""
    options: type[TransformBlock] = kind.Options
    transform: Transform = kind(options.model_validate(keys | {"type": options.model_fields["type"].default}), SITE)
    return transform


SITE = site(Inline())


def records(outcome: Outcome) -> list[bytes]:
    made: list[bytes] = outcome.rows.column("record").to_pylist()
    return made


def places(outcome: Outcome) -> list[tuple[int, int, bytes]]:
    """Row, part and record of each row made."""
    columns = [outcome.rows.column(name).to_pylist() for name in ("row", "part", "record")]
    return list(zip(*columns, strict=True))


def refusals(outcome: Outcome) -> dict[int, str]:
    """What is said of each row that is refused."""
    table = outcome.refused.table
    return dict(zip(table.column("row").to_pylist(), table.column("message").to_pylist(), strict=True))


def made_of(transform: Transform, *given: bytes) -> list[bytes]:
    """The records made of these, none of which is refused."""
    outcome = transform(rows(given))
    assert refusals(outcome) == {}
    return records(outcome)


def refused_alone(transform: Transform, given: bytes) -> str:
    """Why a record is refused, which is the only one of its slice."""
    outcome = transform(rows([given]))
    assert records(outcome) == []
    return refusals(outcome)[0]


def mixed(transform: Transform, given: Sequence[bytes]) -> tuple[list[tuple[int, int, bytes]], dict[int, str]]:
    """What became of records side by side."""
    outcome = transform(rows(given))
    return places(outcome), refusals(outcome)
