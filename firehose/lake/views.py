"""Streams as views, and one SELECT over them; objects that turn out to be damaged are found, and left out if wanted."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import duckdb

from firehose.lake import json_columns, orc
from firehose.lake.engine import Bounds, opened
from firehose.lake.files import PROTOCOL, Lake
from firehose.lake.json_columns import Columns
from firehose.lake.places import Object, Place
from firehose.sql.engine import BadQuery, complaint, literal, name, run

T = TypeVar("T")
COLUMNAR = ("parquet", "orc")
MOST_PARTS = 20  # of a view: each is looked at for itself
# How lines of JSON are read: the first way that all of them can be. Records without newlines between them need the
# second; the third is for those who skip damage: it passes over a line that is no JSON.
STRICT = ("format = 'newline_delimited'", "format = 'unstructured'")
LENIENT = "format = 'newline_delimited', ignore_errors = true"
KEY_TWICE = "has duplicate key"  # as the reader of records says it
NAMED = re.compile(rf"""['"]{PROTOCOL}://([^'"]*)['"]""")
# What DuckDB raises over bytes that are not what they should be. It seldom says of which file.
BROKEN = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException)


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's columns, and its rows as Python's values; `cut` where there are more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    cut: bool


class DamagedObjects(Exception):
    """Objects that cannot be read, by address, and why."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{address}: {why}" for address, why in found.items()))
        self.found = found


@dataclass(frozen=True, slots=True)
class Part:
    """Objects of one kind, and the keys of the folders in their names."""

    kind: str
    keys: tuple[str, ...]
    folder: str  # in the lake


@dataclass(slots=True)
class View:
    """A stream's objects, and what its table is called in SQL."""

    place: Place
    names: tuple[str, ...]
    parts: list[Part]
    whole: bool  # whether all lines of JSON are looked at for its columns, or some
    bad_lines: int = 0
    stale: bool = True  # it is to be made, or made anew


class Views:
    """An engine with some streams as its views. Its methods raise `Unreadable` where a store cannot be reached,
    `DamagedObjects` where objects are to blame, and `BadQuery` where the query is.
    """

    def __init__(
        self, bounds: Bounds, report: Callable[[int], object] = lambda size_bytes: None, skip_damaged: bool = False
    ) -> None:
        self._bounds = bounds
        self._lake = Lake(report)
        self._prunes = True
        self._shape = json_columns.SHAPE
        self._keys_twice = False
        self._engine = opened(bounds, self._lake)
        self._views: list[View] = []
        self._skip_damaged = skip_damaged
        self.skipped: dict[str, str] = {}  # damaged objects that were left out, by address, and why

    def close(self) -> None:
        self._engine.close()

    @property
    def bad_lines(self) -> int:
        """How many lines are no JSON, and were left out."""
        return sum(view.bad_lines for view in self._views)

    def add(self, place: Place, objects: list[Object], names: Iterable[str], whole: bool = True) -> None:
        """The objects as a view of these names. There must be one at least."""
        assert objects, "without an object nobody knows the columns"
        view = View(place, tuple(names), [], whole)
        for (kind, keys), alike in sorted(_alike(objects).items()):
            part = Part(kind, keys, f"{place.stream.name}/{kind}/{len(view.parts)}/")
            self._lake.add(part.folder, place.shelf, alike, keys)
            view.parts.append(part)
        self._views.append(view)

    def columns(self, view: str) -> list[tuple[str, str]]:
        """Names and types."""
        rows = self._careful(lambda: run(self._engine, f"DESCRIBE {name(view)}"))
        return [(label, kind) for label, kind, *_ in rows]

    def ask(self, text: str, limit: int) -> Answer:
        """Up to `limit` rows."""
        return self._careful(lambda: self._asked(text, limit))

    def _asked(self, text: str, limit: int) -> Answer:
        found = self._engine.execute(text)
        columns = [label for label, *_ in found.description or ()]
        rows = found.fetchmany(limit + 1)
        return Answer(columns, rows[:limit], len(rows) > limit)

    # How a view is made.

    def _define(self, view: View) -> None:
        parts = [part for part in view.parts if self._lake.paths(part.folder)]
        if not parts:
            raise BadQuery(f"no object of {view.place.stream.name} can be read")
        files = [self._of_columns(part) for part in parts if part.kind in COLUMNAR]
        tables = [*files, *self._of_lines(view, [part for part in parts if part.kind not in COLUMNAR])]
        for one in view.names:
            run(self._engine, f"CREATE OR REPLACE VIEW {name(one)} AS {' UNION ALL BY NAME '.join(tables)}")
        view.stale = False

    def _of_columns(self, part: Part) -> str:
        """A SELECT of all objects of one part, whose files tell their columns."""
        if part.kind == "parquet":
            return f"SELECT * FROM read_parquet({_files(f'{part.folder}**', part.keys)})"
        paths = self._lake.paths(part.folder)
        self._engine.register(part.folder, orc.table(self._lake, paths, self._key_types(part)))
        return f"SELECT * FROM {name(part.folder)}"

    def _of_lines(self, view: View, parts: Sequence[Part]) -> Iterator[str]:
        """One of each part of JSON; columns of one name have one type in all of them."""
        ways = (*STRICT, *self._lenient())
        found = [_first(ways, partial(self._looked_at, view, part)) for part in parts]
        told = json_columns.united([columns for _, columns in found])
        view.bad_lines = sum(columns.bad_lines for columns in told)
        for part, (how, _), columns in zip(parts, found, told, strict=True):
            yield self._json_table(part, how, columns)

    def _looked_at(self, view: View, part: Part, how: str) -> tuple[str, Columns]:
        objects = f"read_json_objects({_files(f'{part.folder}**', part.keys)}, {how})"
        return how, json_columns.found(self._engine, objects, part.keys, view.whole, self._shape)

    def _key_types(self, part: Part) -> dict[str, str]:
        """What DuckDB makes of the folders' keys, which it tells without opening an object."""
        if not part.keys:
            return {}
        every = literal(f"{PROTOCOL}://{part.folder}**")
        unread = f"read_json_objects({every}, {STRICT[1]}, compression = 'gzip', hive_partitioning = true)"
        rows = run(self._engine, f"DESCRIBE SELECT * EXCLUDE (json) FROM {unread}")
        return {label: kind for label, kind, *_ in rows}

    def _json_table(self, part: Part, how: str, found: Columns) -> str:
        every = _files(f"{part.folder}**", part.keys)
        objects = f"read_json_objects({every}, {how})"
        if not found.types:
            return f"SELECT * FROM {objects} WHERE json IS NOT NULL"
        if self._keys_twice:
            made = f"json_transform(json, {literal(json.dumps(dict(found.types)))})"
            return f"SELECT unnest({made}), * EXCLUDE (json) FROM {objects} WHERE json IS NOT NULL"
        table = f"SELECT * FROM read_json({every}, {how}, records = true, columns = {{{found.text()}}})"
        nothing = " AND ".join(f"{name(label)} IS NULL" for label in found.types)
        return f"{table} WHERE NOT ({nothing})" if found.bad_lines else table

    def _lenient(self) -> tuple[str, ...]:
        return (LENIENT,) if self._skip_damaged else ()

    # What is damaged.

    def _careful(self, action: Callable[[], T]) -> T:
        """The action over views that are up to date; again without objects that are to blame for its failure, where
        these may be left out.
        """
        while True:
            try:
                for view in self._views:
                    if view.stale:
                        self._define(view)
                return action()
            except (duckdb.Error, OSError) as error:
                if self._failed_at_itself(error) or self._failed_at_keys(error):
                    continue
                found = self._to_blame(error)
            if not self._skip_damaged:
                raise DamagedObjects({self._lake.item(path).address: why for path, why in found.items()})
            for path, why in found.items():
                self.skipped[self._lake.item(path).address] = why
                self._lake.remove(path)
            for view in self._views:
                view.stale = True

    def _failed_at_itself(self, error: Exception) -> bool:
        """Whether to try again. DuckDB 2.0 fails so where a query picks a field out of a struct that lies within a
        struct that some object does not have; it reads all of the outer one then. And where a line is too deep for it.
        """
        again = isinstance(error, duckdb.InternalException) and self._prunes
        if isinstance(error, duckdb.InternalException):
            self._prunes = False
            if "recursion depth" in str(error):
                self._shape = json_columns.DEEP_SHAPE
            self._open_anew()
        return again

    def _failed_at_keys(self, error: Exception) -> bool:
        """Whether to try again: DuckDB's reader of JSON wants no object with a key twice, its function takes them."""
        again = KEY_TWICE in str(error) and not self._keys_twice
        if again:
            self._keys_twice = True
            for view in self._views:
                view.stale = True
        return again

    def _open_anew(self) -> None:
        """Whatever failed at itself refuses all that comes after."""
        self._engine.close()
        self._engine = opened(self._bounds, self._lake, self._prunes)
        for view in self._views:
            view.stale = True

    def _to_blame(self, error: Exception) -> dict[str, str]:
        """The damaged objects, by path: one that is to blame, or all where they will be left out."""
        if self._lake.unreachable is not None:
            raise self._lake.unreachable from None
        named = [path for path in NAMED.findall(str(error)) if path in self._lake.paths()]
        found = dict(self._lake.damaged) or {path: _why(error) for path in named[:1]}
        broken = isinstance(error, BROKEN) or not isinstance(error, duckdb.DatabaseError)
        if (found and self._skip_damaged) or (broken and not found):
            found = self._inspected()
        if not found:
            raise BadQuery(complaint(error) if isinstance(error, duckdb.Error) else str(error)) from None
        return found

    def _inspected(self) -> dict[str, str]:
        """Every object that cannot be read to its end, by itself."""
        found = {}
        for path in self._lake.paths():
            self._lake.damaged.clear()
            try:
                self._read_through(path)
            except (duckdb.Error, OSError) as error:
                if self._lake.unreachable is not None:
                    raise self._lake.unreachable from None
                found[path] = self._lake.damaged.get(path, _why(error))
                if isinstance(error, duckdb.InternalException):
                    self._open_anew()
        self._lake.damaged.clear()
        return found

    def _read_through(self, path: str) -> None:
        kind = self._lake.item(path).object.kind
        if kind == "orc":
            self._engine.register("one", orc.table(self._lake, [path], {}))
            run(self._engine, "SELECT bit_xor(hash(t)) FROM one AS t")
        elif kind == "parquet":
            run(self._engine, f"SELECT bit_xor(hash(t)) FROM read_parquet({_files(path)}) AS t")
        else:
            count = f"SELECT count(json) FROM read_json_objects({_files(path)}, "
            _first(self._lenient() or STRICT, lambda how: run(self._engine, f"{count}{how})"))


def _alike(objects: Sequence[Object]) -> dict[tuple[str, tuple[str, ...]], list[Object]]:
    """Objects by their kind and the keys of their folders: one that lacks a key may have a column of its name. Where
    keys are data, all of a kind have all of them.
    """
    found = defaultdict[tuple[str, tuple[str, ...]], list[Object]](list)
    for one in objects:
        found[one.kind, tuple(sorted(one.keys))].append(one)
    if len(found) <= MOST_PARTS:
        return found
    every = tuple(sorted({key for _, keys in found for key in keys}))
    return {(kind, every): [one for one in objects if one.kind == kind] for kind in {kind for kind, _ in found}}


def _files(path: str, keys: Iterable[str] = ()) -> str:
    """What readers are told of which files to read. Those of JSON look packed to them: see `firehose.lake.files`."""
    hive = "true" if list(keys) else "false"
    union = "compression = 'gzip'" if "/json/" in path else "union_by_name = true"
    return f"{literal(f'{PROTOCOL}://{path}')}, hive_partitioning = {hive}, {union}"


def _first(ways: Iterable[str], attempt: Callable[[str], T]) -> T:
    """What the first way comes to that the input allows; what is wrong with the first is raised where none does."""
    failures = []
    for how in ways:
        try:
            return attempt(how)
        except duckdb.InvalidInputException as error:
            failures.append(error)
    raise failures[0]


def _why(error: Exception) -> str:
    """What is wrong with an object, without the path that only DuckDB knows."""
    said = complaint(error, placed=False) if isinstance(error, duckdb.Error) else str(error)
    if found := re.search(r"Malformed JSON in file [^,]*, at byte \d+ in \S+ \d+: (.*)", said):
        return f"a record in it is no JSON: {found[1].partition('. ')[0].rstrip('. ')}"
    return NAMED.sub("it", said)
