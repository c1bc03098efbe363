"""Which delivery streams exist, in which versions: the one answer for both halves (DESIGN 3.4).

Kept in `<data_dir>/catalog`, a JSON object {"format": 2, "streams": {name: entry}, "crc"} (see `checked_json`), written
whole by the ingest half alone and read by both. A definition is kept as it was written: its `${...}` references are
resolved by whoever uses it, so no secret is ever stored here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import msgspec

from firehose import checked_json
from firehose.contracts import Disk

State = Literal["CREATING", "CREATING_FAILED", "DELETING", "DELETING_FAILED", "ACTIVE"]
Definition = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """A time during which a stream had a destination, in records sealed by then. `until` is open while it has it."""

    since: int
    until: int | None = None

    def records(self, sealed: int) -> int:
        """How many records fell to the destination, of `sealed` ones in all."""
        return (sealed if self.until is None else self.until) - self.since


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery stream. `definitions` holds the newest version and the older ones that a segment still needs."""

    name: str
    origin: Literal["yaml", "api"]
    state: State
    created_ms: int
    version: int
    definitions: Mapping[int, Definition] = field(repr=False)
    updated_ms: int | None = None
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)  # by destination

    @property
    def newest(self) -> Definition:
        return self.definitions[self.version]

    def definition(self, version: int) -> Definition:
        """The definition that a segment of this version follows; the newest where that one is lost."""
        return self.definitions.get(version, self.newest)

    def owed(self, destination: str, sealed: int) -> int:
        """How many of `sealed` records were ever meant for the destination."""
        return sum(span.records(sealed) for span in self.spans.get(destination, ()))


BACKUP = "backup"  # the name of the destination that gets the source records


def destination_blocks(definition: Definition) -> dict[str, Mapping[str, Any]]:
    """The destinations of a definition as written, by name: its own, else its type; a backup of all is one more."""
    single = definition.get("destination")
    given = [single] if single else definition.get("destinations") or []
    blocks = {str(block.get("name") or block.get("type")): block for block in given}
    if backup := backup_block(definition.get("backup"), "all"):
        blocks[BACKUP] = backup
    return blocks


def backup_block(backup: Mapping[str, Any] | None, mode: str) -> dict[str, Any] | None:
    """The destination that a `backup` of that mode names; None for one of another mode."""
    if not backup or backup.get("mode", "all") != mode:
        return None
    return {**{key: value for key, value in backup.items() if key != "mode"}, "name": BACKUP}


class Damaged(ValueError):
    """The file is none that any release wrote."""


def opened(disk: Disk, data_dir: str, report: Callable[[str], None]) -> Catalogue:
    """The catalogue for its one writer. A damaged file is kept aside and reported: then streams are known anew from the
    configuration, and those that only the file knew wait until they are in it again.
    """
    try:
        return Catalogue(disk, data_dir)
    except Damaged as damage:
        path = f"{data_dir}/catalog"
        report(f"{damage}; it is kept as {path}.damaged")
        disk.rename(path, f"{path}.damaged")
        disk.sync_folder(data_dir)
        return Catalogue(disk, data_dir)


class Catalogue:
    """All entries. Reading is free; `reconcile` and whatever else changes it writes it whole before it returns."""

    def __init__(self, disk: Disk, data_dir: str) -> None:
        self._disk = disk
        self._path = f"{data_dir}/catalog"
        self.entries: dict[str, Entry] = {}
        self.reload()

    def reload(self) -> None:
        """Reads the file again. Raises `NewerFormat`, `Damaged`."""
        if not self._disk.exists(self._path):
            return
        try:
            said = checked_json.decode(self._path, self._disk.read(self._path))
            self.entries = _entries(said["streams"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Damaged(f"{self._path} cannot be understood: {error!r}") from error

    def version(self, stream: str) -> int:
        return self.entries[stream].version if stream in self.entries else 1

    def destinations(self, stream: str, version: int) -> tuple[str, ...]:
        """Names of the destinations that a segment of this version goes to; none where the stream is unknown."""
        entry = self.entries.get(stream)
        return tuple(destination_blocks(entry.definition(version))) if entry else ()

    def reconcile(
        self,
        definitions: Mapping[str, Definition],
        now_ms: int,
        sealed: Callable[[str], int],
        needed: Callable[[str], set[int]],
    ) -> None:
        """Makes the YAML's streams exist as they are written now, and ends the intake of those it no longer has.

        `sealed` answers how many records of a stream were ever sealed; `needed` which versions a segment still needs.
        """
        entries = dict(self.entries)
        for name, written in definitions.items():
            definition = json.loads(json.dumps(written, default=str))  # as the file will give it back
            old = entries.get(name)
            if old:
                entries[name] = _updated(old, definition, now_ms, sealed(name))
            else:
                entries[name] = _new(name, definition, now_ms, version=max(needed(name), default=1))
        for name, entry in entries.items():
            if entry.origin == "yaml" and name not in definitions:
                entry = replace(entry, state="DELETING")
            keep = {entry.version, *needed(name)}
            entries[name] = replace(entry, definitions={v: d for v, d in entry.definitions.items() if v in keep})
        if entries != self.entries:
            self._write(entries)
            self.entries = entries

    def _write(self, entries: Mapping[str, Entry]) -> None:
        streams = {name: asdict(entry) for name, entry in entries.items()}
        self._disk.replace(self._path, checked_json.encode({"streams": streams}, indent=1))


def _new(name: str, definition: Definition, now_ms: int, version: int) -> Entry:
    """A stream's first entry. Its version is 1, but where a lost catalogue's segments are still there it goes on."""
    spans = {destination: (Span(0),) for destination in destination_blocks(definition)}
    return Entry(name, "yaml", "ACTIVE", now_ms, version, {version: definition}, spans=spans)


def _updated(old: Entry, definition: Definition, now_ms: int, sealed: int) -> Entry:
    if definition == old.newest:
        return replace(old, state="ACTIVE")
    version = old.version + 1
    names = destination_blocks(definition)
    spans = {name: _continued(old.spans.get(name, ()), name in names, sealed) for name in {*old.spans, *names}}
    return replace(
        old,
        state="ACTIVE",
        version=version,
        updated_ms=now_ms,
        definitions={**old.definitions, version: definition},
        spans=spans,
    )


def _continued(spans: tuple[Span, ...], present: bool, sealed: int) -> tuple[Span, ...]:
    """A destination's spans once the stream has it (or not) from now on."""
    is_open = bool(spans) and spans[-1].until is None
    if present == is_open:
        return spans
    return (*spans, Span(sealed)) if present else (*spans[:-1], Span(spans[-1].since, sealed))


def _entries(streams: Any) -> dict[str, Entry]:
    """The entries as they were written. Raises ValueError and its like for anything that was not."""
    entries = msgspec.convert(streams, dict[str, Entry], str_keys=True)
    for name, entry in entries.items():
        if entry.name != name or entry.version not in entry.definitions:
            raise ValueError(f"the stream '{name}' has another name, or no definition of its version {entry.version}")
        for definition in entry.definitions.values():
            destination_blocks(definition)
    return entries
