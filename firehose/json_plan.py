"""How a block of JSON lines is read at once: Arrow types for its parser, and what is made of the columns then.

A plan never gives another value than reading document by document; what it is not sure of, it does not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from firehose.deserializers.deserializer import Deserializer, Keys, Misfit
from firehose.deserializers.seen import ITEM, Path, Seen
from firehose.hive_type import Array, HiveType, Map, Scalar, Struct
from firehose.table_schema import TableSchema

Convert = Callable[[pa.Array], pa.Array]
_UNSAFE = re.compile(r'["\\\x00-\x1f]|^ *:')  # in a key: it is escaped in other ways, or is found within another's end
_ROW = re.compile(r" in row (\d+)")  # of the parser's complaints: a hint and no more
LONGEST_PATTERN = 40_000  # characters: of 60,000 Arrow's matcher has no room for its work, and reads nothing
_ESCAPED_KEY = r'\\[u/][^"]*"\s*:'


@dataclass(frozen=True, slots=True)
class _Part:
    """A column, field or item: as what it is parsed, and what is made of it; None leaves it as it is."""

    parse: pa.DataType
    convert: Convert | None = None


class NoPlan(Exception):
    """The columns are of types that only the slow way reads."""


@dataclass(frozen=True, slots=True)
class JsonPlan:
    """`strict`: a key without a column makes the block unreadable. `odd_spelling`, where not empty, finds keys that
    fold to a column's own and are spelled otherwise, which the parser would pass over; where that would be too long,
    `spellings` find all such keys, and those that are spelled as the parser is told.
    """

    target: pa.Schema
    parse: pa.Schema
    parts: tuple[_Part, ...]
    strict: bool
    odd_spelling: str = ""
    spellings: tuple[str, ...] = ()

    @staticmethod
    def of(schema: TableSchema, deserializer: Deserializer, seen: Seen, grows: bool) -> JsonPlan:
        """Raises `NoPlan`."""
        making = _Making(deserializer, seen, grows)
        parse, parts = making.fields(schema.columns, deserializer.keys.of_column, ())
        exact = deserializer.keys.exact
        strict = grows or not (exact or seen.more)
        if strict or exact:
            return JsonPlan(schema.arrow, pa.schema(parse), tuple(parts), strict)
        odd = making.odd_spelling()
        return JsonPlan(schema.arrow, pa.schema(parse), tuple(parts), strict, odd, () if odd else making.spellings())

    def table(self, lines: pa.Buffer) -> pa.Table:
        """Raises `Misfit` where it is not sure."""
        try:
            if self.odd_spelling or self.spellings:
                self._require_known_spelling(lines)
            found = self._parsed(lines)
            columns = [
                _converted(part, _whole(column)) for part, column in zip(self.parts, found.columns, strict=False)
            ]
            return pa.table(columns, schema=self.target)
        except pa.ArrowException as error:
            said = _ROW.search(str(error))
            raise Misfit(int(said[1]) if said else None) from error

    def _parsed(self, lines: pa.Buffer) -> pa.Table:
        return pa.json.read_json(
            pa.BufferReader(lines),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=lines.size + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=self.parse, unexpected_field_behavior="error" if self.strict else "ignore"
            ),
        )

    def _require_known_spelling(self, lines: pa.Buffer) -> None:
        offsets = pa.array([0, lines.size], pa.int32()).buffers()[1]
        text = pa.StringArray.from_buffers(1, offsets, lines)
        counts = {pc.count_substring_regex(text, form)[0].as_py() for form in self.spellings}
        odd = [_ESCAPED_KEY, *([self.odd_spelling] if self.odd_spelling else [])]
        if len(counts) > 1 or any(pc.match_substring_regex(text, form)[0].as_py() for form in odd):
            raise Misfit


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _converted(part: _Part, values: pa.Array) -> pa.Array:
    return part.convert(values) if part.convert else values


@dataclass(slots=True)
class _Making:
    """Of one plan."""

    deserializer: Deserializer
    seen: Seen
    grows: bool
    spelled: dict[str, str] = field(default_factory=dict)  # by folded key

    def fields(
        self, fields: tuple[tuple[str, HiveType], ...], key_of: Callable[[str], str], path: Path
    ) -> tuple[list[pa.Field], list[_Part]]:
        """What an object is parsed as: its own fields first, then keys that are known to hold nothing."""
        parts = [self._part(type_, (*path, name)) for name, type_ in fields]
        keys = [self._key(key_of(name), (*path, name)) for name, _ in fields]
        empty = sorted(self.seen.empty.get(path, frozenset()) - set(keys)) if self.grows else []
        if len(set(keys)) < len(keys):
            raise NoPlan
        made = [pa.field(key, part.parse) for key, part in zip(keys, parts, strict=True)]
        return made + [pa.field(key, pa.null()) for key in empty], parts

    def _key(self, folded: str, path: Path) -> str:
        key = self.seen.spelled.get(path, folded)
        if self.spelled.setdefault(folded, key) != key:
            self.spelled[folded] = ""  # not the same everywhere
        return key

    def _part(self, type_: HiveType, path: Path) -> _Part:
        match type_:
            case Scalar():
                return self._scalar(type_, path)
            case Struct():
                return self._struct(type_, path)
            case Array():
                return self._array(type_, path)
            case Map():
                raise NoPlan

    def _scalar(self, type_: Scalar, path: Path) -> _Part:
        column = self.deserializer.column(type_, self.seen.kinds.get(path)) or self.deserializer.column(type_, None)
        if not column:
            raise NoPlan
        return _Part(column.parse, column.convert)

    def _struct(self, type_: Struct, path: Path) -> _Part:
        parse, parts = self.fields(type_.fields, self.deserializer.keys.of_field, path)
        made, target = pa.struct(parse), type_.arrow
        if made == target and not any(part.convert for part in parts):
            return _Part(made)

        def convert(values: pa.Array) -> pa.Array:
            inner = [_converted(part, values.field(at)) for at, part in enumerate(parts)]
            return pa.StructArray.from_arrays(inner, fields=list(target), mask=values.is_null())

        return _Part(made, convert)

    def _array(self, type_: Array, path: Path) -> _Part:
        item, target = self._part(type_.item, (*path, ITEM)), type_.arrow
        made = pa.list_(pa.field(target.value_field.name, item.parse))
        if not item.convert:
            return _Part(made)

        def convert(values: pa.Array) -> pa.Array:
            assert values.offset == 0, "the parser's own arrays begin at their beginning"
            inner = _converted(item, values.values)
            return pa.ListArray.from_arrays(values.offsets, inner, type=target, mask=values.is_null())

        return _Part(made, convert)

    def odd_spelling(self) -> str:
        """A pattern for the keys of all columns in any spelling but the one that is read: the faster way, while it is
        no longer than a pattern may be; for each sign of a key it has the key once more. Empty where it would be.
        """
        pattern, left = [], LONGEST_PATTERN
        for key in self._known():
            for form in _odd_forms(key, self.deserializer.keys):
                pattern.append(form)
                left -= len(form)
                if left < 0:
                    return ""
        return _keys(pattern) if pattern else ""

    def spellings(self) -> tuple[str, ...]:
        """Patterns for the keys of all columns, in any spelling and in the one that is read: as long as the keys."""
        keys = self.deserializer.keys
        return _keys([_in_any_way(key, keys) for key in self._known()]), _keys(map(_quoted, self._known()))

    def _known(self) -> list[str]:
        """The keys that are read. Raises `NoPlan`."""
        known = list(self.spelled.values())
        if not all(known) or any(_UNSAFE.search(key) for key in known):
            raise NoPlan
        return known


def _keys(forms: Iterable[str]) -> str:
    return f'"(?:{"|".join(forms)})"\\s*:'


def _in_any_way(key: str, keys: Keys) -> str:
    return "".join(f"[{_quoted(''.join(sorted(_alike(sign, keys))))}]" for sign in key)


def _odd_forms(key: str, keys: Keys) -> Iterator[str]:
    """For each place in the key where it may differ: as it is up to there, another sign, and anything alike behind."""
    alike = ["".join(sorted(_alike(sign, keys))) for sign in key]
    for at, signs in enumerate(alike):
        if others := signs.replace(key[at], ""):
            behind = "".join(f"[{_quoted(signs)}]" for signs in alike[at + 1 :])
            yield f"{_quoted(key[:at])}[{_quoted(others)}]{behind}"


def _alike(sign: str, keys: Keys) -> set[str]:
    """All signs that fold to what this one folds to."""
    return {other for other in _candidates(sign) if keys.folded(other) == keys.folded(sign)}


def _candidates(sign: str) -> Iterator[str]:
    yield sign
    if sign.isascii():
        yield from (sign.lower(), sign.upper())
    yield from "._" if sign in "._" else ""


def _quoted(text: str) -> str:
    """For RE2."""
    return "".join(sign if sign.isalnum() or sign == "_" or not sign.isascii() else f"\\{sign}" for sign in text)
