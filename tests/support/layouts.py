"""Ways in which a stream's objects may be laid out, each with the folder that a record of ours has under it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from oracle import assert_each_once

Record = Mapping[str, str]
QUERY = "!{partitionKeyFromQuery:key}"
PAD = "x" * 8192  # three of these seal a segment, and are not enough of one partition
PARQUET = {"format": {"type": "parquet"}}
BUFFERING = {"size_mib": 0.02, "interval_seconds": 3600}


@dataclass(frozen=True, slots=True)
class Layout:
    """`folder` is that of a record. `partitioning` is the block; None where there are no partitions. `more` stands in
    the destination.
    """

    prefix: str
    folder: Callable[[Record], str]
    partitioning: Mapping[str, Any] | None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return ".parquet" if self.more == PARQUET else ""

    def stream(self, destination: Mapping[str, Any], **partitioning: Any) -> dict[str, Any]:
        """A stream with this layout."""
        block = {} if self.partitioning is None else {"dynamic_partitioning": {**self.partitioning, **partitioning}}
        return {"buffering": BUFFERING, "destination": {**destination, "prefix": self.prefix, **self.more}, **block}


def by_query(query: str, value: Callable[[Record], str], prefix: str = "key=") -> Layout:
    return Layout(f"{prefix}{QUERY}/", lambda one: f"{prefix}{value(one)}", {"queries": {"key": query}})


LAYOUTS: Mapping[str, Layout] = {
    "plain": Layout("plain/!{timestamp:'day'}/", lambda one: "plain/day", None),
    "a": by_query(".a", lambda one: one["a"]),
    "b": by_query(".b", lambda one: one["b"]),
    "asked": by_query(".a | ascii_upcase", lambda one: one["a"].upper()),
    "a elsewhere": by_query(".a", lambda one: one["a"], "elsewhere/"),
    "columns": Layout("lake/", lambda one: f"lake/a={one['a']}", {"columns": ["a"]}),
    "two columns": Layout("lake/", lambda one: f"lake/b={one['b']}/a={one['a']}", {"columns": ["b", "a"]}),
    "parquet": Layout("lake/", lambda one: f"lake/a={one['a']}", {"columns": ["a"]}, PARQUET),
    "parquet by query": Layout(f"b={QUERY}/", lambda one: f"b={one['b']}", {"queries": {"key": ".b"}}, PARQUET),
}


class Sent:
    """Records, no two alike, and the places that each may lie in: a folder, and how files there end."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.places: dict[str, set[str]] = {}

    def body(self, keys: Iterable[str], *under: Layout, large: bool = False) -> bytes:
        """One record for each key, to be found as one of these layouts has it. Three large ones make a segment."""
        return b"".join(self._line(key, under, PAD if large else "") for key in keys)

    def _line(self, key: str, under: Iterable[Layout], pad: str) -> bytes:
        record = {"id": f"{self.name}{len(self.places):04d}", "a": key, "b": f"not-{key}", "pad": pad}
        self.places[record["id"]] = {layout.folder(record) + layout.suffix for layout in under}
        return json.dumps(record).encode() + b"\n"

    def check(self, out: Path) -> None:
        """Each is there once, where it may be."""
        found = [(one, f"{file.parent.relative_to(out)}{file.suffix}") for file in objects(out) for one in ids(file)]
        assert_each_once(list(self.places), [one for one, _ in found])
        assert [(one, place) for one, place in found if place not in self.places[one]] == []


def objects(out: Path) -> list[Path]:
    hidden = {".partial", "_schemas"}
    return [path for path in sorted(out.rglob("*")) if path.is_file() and not hidden & set(path.parts)]


def ids(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        column: list[str] = pq.ParquetFile(file).read().column("id").to_pylist()
        return column
    return [json.loads(line)["id"] for line in file.read_text().splitlines()]
