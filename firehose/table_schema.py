"""The columns of a table that records become: names and Hive types, in order. Where they come from: `schemas`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from firehose import hive_type
from firehose.hive_type import HiveType

RESCUED = "_rescued"  # JSON of what does not fit the columns, of an inferred schema


@dataclass(frozen=True)
class TableSchema:
    """Columns by name. No two names are equal but for their case: no engine that reads them could tell them apart.

    A schema that is given has at least one; one that is inferred begins with none.
    """

    columns: tuple[tuple[str, HiveType], ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for name, _ in self.columns:
            if (lower := name.lower()) in seen:
                raise ValueError(f"there are two columns {seen[lower]!r} and {name!r}; names differ by more than case")
            if not name:
                raise ValueError("a column has a name")
            seen[lower] = name

    @staticmethod
    def parsed(columns: Mapping[str, str] | Iterable[tuple[str, str]]) -> TableSchema:
        """Of types as text. Raises ValueError naming the column."""
        pairs = columns.items() if isinstance(columns, Mapping) else columns
        parsed = tuple((name, _column_type(name, text)) for name, text in pairs)
        if not parsed:
            raise ValueError("a schema has at least one column")
        return TableSchema(parsed)

    def types(self) -> dict[str, str]:
        """Names and types as text: what `parsed` reads."""
        return {name: str(type_) for name, type_ in self.columns}

    @cached_property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(name, type_.arrow) for name, type_ in self.columns])


def _column_type(name: str, text: str) -> HiveType:
    try:
        return hive_type.parse(text)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from None
