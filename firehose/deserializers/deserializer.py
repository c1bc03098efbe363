"""The door to a way of reading JSON into columns: one value at a time, and whole columns where a kernel can.

Law: `column` never makes another value than `scalar` makes of the same JSON. It may raise `Misfit` for any of them, and
then they are read one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from firehose.deserializers.values import Read
from firehose.hive_type import Scalar
from firehose.table_schema import TableSchema

Kind = Literal["string", "integer", "real", "boolean"]  # of JSON's plain values


class Misfit(Exception):
    """A block or a column that cannot be read at once, or not surely as value by value. `row`: the first bad one, as
    far as is known.
    """

    def __init__(self, row: int | None = None) -> None:
        super().__init__()
        self.row = row


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is read at once: as which Arrow type first, and what is made of that; None leaves it."""

    parse: pa.DataType
    convert: Callable[[pa.Array], pa.Array] | None = None


class Keys(Protocol):
    """Which key of an object goes to which column or field."""

    @property
    def exact(self) -> bool:
        """Whether only the very name will do, so that no other key need be looked at."""
        ...

    def folded(self, key: str) -> str:
        """Keys that are folded alike are the same one."""
        ...

    def of_column(self, name: str) -> str:
        """The folded key that the top-level column is read from."""
        ...

    def of_field(self, name: str) -> str:
        """The folded key that a struct's field is read from."""
        ...


class Deserializer(Protocol):
    @property
    def keys(self) -> Keys: ...

    def require(self, schema: TableSchema) -> None:
        """Raises ValueError where columns of this kind cannot be read."""
        ...

    def scalar(self, type_: Scalar) -> Read:
        """What reads one value for a column of this type."""
        ...

    def column(self, type_: Scalar, kind: Kind | None) -> Column | None:
        """What reads a whole column of which every value is of this kind (None: the type's own kind)."""
        ...
