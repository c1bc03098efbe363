"""Records read for their keys' sake: each distinct set of the few fields that keys are made of, once.

Cheap: msgspec looks over a record of 500 bytes in less than a microsecond, checks it strictly and makes nothing but the
fields asked for; and many records in one go, where it cannot mix them up. It takes half of what pyarrow's reader takes
with a schema as narrow, which also accepts some records that are no JSON. Whatever is made of the fields is then made
for distinct ones alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, repeat
from operator import attrgetter
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw

from firehose.json_lines import JsonLines
from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson

T = TypeVar("T")
NOT_JSON = "Non JSON record provided"  # AWS's own words
NULL_TEXT = b"null"
NULL = Raw(NULL_TEXT)
KINDS = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}
Codes = np.ndarray[tuple[int], np.dtype[np.int32]]
Fold = Callable[[str], str]  # keys that it makes the same of are one key
AT_ONCE = 1024  # records: one that is no JSON makes so many be read one by one
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # what of a name JSON writes otherwise, where msgspec looks for no field


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a record has no value for a key."""

    message: str


Value = str | Flaw


# A record's fields as they are written; the record itself, where these cannot stand for it; None for what is no JSON.
Text = tuple[bytes, ...] | bytes | None
# The same as it was read: where all fields of many records are strings, they come as such, for that is quicker.
Seen = str | tuple[str | bytes, ...] | bytes | None


@dataclass(frozen=True)
class Found:
    """What keys are made of: of all records that are alike in it, once."""

    names: Sequence[str]  # of the fields
    seen: Sequence[Seen]
    handed: Sequence[Mapping[str, str]]  # the partition keys that the user's code returned

    @cached_property
    def texts(self) -> Sequence[Text]:
        return [*map(text, self.seen)]

    def values(
        self,
        names: Sequence[str],
        made: Callable[[bytes], Value],
        alike: Callable[[bytes], bytes] = bytes,
        fold: Fold | None = None,
    ) -> list[Value]:
        """What is made of the value that the names lead to, of each text. Fields for which `alike` says the same are
        known to come to the same.
        """

        def value(start: bytes, rest: Sequence[str]) -> Value:
            reached = walked(start, rest, fold)
            return reached if isinstance(reached, Flaw) else made(reached)

        place = self.names.index(names[0]) if self.names else 0
        known: dict[bytes, Value] = {}
        ends: list[Value] = []
        for one in self.texts:
            if isinstance(one, tuple):
                start = alike(one[place])
                if start not in known:
                    known[start] = value(one[place], names[1:])
                ends.append(known[start])
            else:
                ends.append(Flaw(NOT_JSON) if one is None else value(one.strip(), names))
        return ends


class Documents:
    """Reads the named fields of records; whole records where no names are given. With `fold`, a field that a record
    has not may be there under a name that is folded alike.
    """

    def __init__(self, names: Sequence[str] | None, handed: bool, fold: Fold | None = None) -> None:
        if names is not None and any(map(_ESCAPED.search, names)):
            names = None
        self._names = names
        self._handed = handed
        self._fold = fold
        fields = [f"f{place}" for place, _ in enumerate(names or ())]
        renamed = dict(zip(fields, names or (), strict=True))
        written = msgspec.defstruct("Written", [(field, Raw, NULL) for field in fields], rename=renamed, gc=False)
        strings = msgspec.defstruct("Strings", [(field, str) for field in fields], rename=renamed, gc=False)
        self._decoder = msgspec.json.Decoder(written)
        self._strings = msgspec.json.Decoder(strings)
        self._fields = [attrgetter(field) for field in fields]

    def read(self, slices: Iterable[pa.RecordBatch]) -> tuple[Codes, Found]:
        """What there is, and for each row of all the slices at which place in that. Each is read before the next one is
        asked for.
        """
        if self._handed:
            codes, pairs = _numbered(chain.from_iterable(map(self._seen_and_handed, slices)))
            keys = [_handed(meta) if meta else {} for _, meta in pairs]
            return codes, Found(self._names or (), [one for one, _ in pairs], keys)
        codes, distinct = _numbered(chain.from_iterable(self._seen(rows.column("record")) for rows in slices))
        return codes, Found(self._names or (), distinct, [])

    def _seen_and_handed(self, rows: pa.RecordBatch) -> Iterable[tuple[Seen, str | None]]:
        metas = rows.column("meta").to_pylist() if "meta" in rows.schema.names else repeat(None)
        return zip(self._seen(rows.column("record")), metas, strict=False)

    def _seen(self, records: pa.BinaryArray) -> Iterable[Seen]:
        seen = self._seen_as_named(records)
        return map(self._folded, seen, count(), repeat(records)) if self._fold and self._names else seen

    def _folded(self, seen: Seen, row: int, records: pa.BinaryArray) -> Seen:
        if not isinstance(seen, tuple) or NULL_TEXT not in seen:
            return seen
        record = records[row].as_py()
        pairs = zip(seen, self._names or (), strict=True)
        return tuple(member(record, name, self._fold) if one == NULL_TEXT else one for one, name in pairs)

    def _seen_as_named(self, records: pa.BinaryArray) -> Iterable[Seen]:
        if self._names is None:
            return map(_whole, records.to_pylist())
        if not self._names:
            return repeat((), len(records))
        if _is_utf8(records):
            return chain.from_iterable(self._seen_in_pieces(records))
        good = map(_whole, records.to_pylist())
        return (self._field_texts([one])[0] if one is not None else None for one in good)

    def _seen_in_pieces(self, records: pa.BinaryArray) -> Iterator[Iterable[Seen]]:
        lines = JsonLines.of(records)
        framed = lines.framed()
        all_strings = True
        for start in range(0, len(lines), AT_ONCE):
            end = min(start + AT_ONCE, len(lines))
            if not framed[start:end].all():
                yield self._field_texts(records[start:end].to_pylist())
                continue
            strings = self._decoded(self._strings, lines, start, end) if all_strings else None
            all_strings = strings is not None
            found = self._decoded(self._decoder, lines, start, end) if strings is None else strings
            if found is None:
                yield self._field_texts(records[start:end].to_pylist())
            elif strings is None:
                yield zip(*(map(bytes, map(field, found)) for field in self._fields), strict=True)
            elif len(self._fields) == 1:
                yield map(self._fields[0], strings)
            else:
                yield zip(*(map(field, strings) for field in self._fields), strict=True)

    def _decoded(self, decoder: msgspec.json.Decoder[T], lines: JsonLines, start: int, end: int) -> list[T] | None:
        """Of framed records, all of which are JSON that the decoder takes; None where that is not sure. Each has a
        document at least, since none goes on behind a record's end (see `json_lines`): as many as there are records are
        one each.
        """
        try:
            found = decoder.decode_lines(lines.piece(start, end))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if len(found) == end - start else None

    def _field_texts(self, records: Sequence[bytes]) -> list[Text]:
        """Goes through the records."""
        decode, astuple = self._decoder.decode, msgspec.structs.astuple
        made: list[Text] = []
        for record in records:
            try:
                made.append(tuple(map(bytes, astuple(decode(record)))))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                made.append(_whole(record))
        return made


class _Numbers(dict[T, int]):
    """Gives what it has not seen yet the next number. A look-up that succeeds never enters Python."""

    def __missing__(self, key: T) -> int:
        number = self[key] = len(self)
        return number


def _numbered(values: Iterable[T]) -> tuple[Codes, list[T]]:
    """The number of each value, and the values by number."""
    numbers = _Numbers[T]()
    codes = np.fromiter(map(numbers.__getitem__, values), np.int32)
    return codes, list(numbers)


def text(seen: Seen) -> Text:
    """Strings as JSON writes them: what is made of fields knows no difference."""
    if isinstance(seen, str):
        return (msgspec.json.encode(seen),)
    if isinstance(seen, tuple):
        return tuple(msgspec.json.encode(one) if isinstance(one, str) else one for one in seen)
    return seen


def _is_utf8(records: pa.BinaryArray) -> bool:
    try:
        records.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _whole(record: bytes) -> bytes | None:
    try:
        json_record.text(record)
    except NotJson:
        return None
    return record


class Meta(msgspec.Struct):
    """What of a row's `meta` the user's code wrote."""

    partitionKeys: dict[str, str] = {}


_META = msgspec.json.Decoder(Meta)


def _handed(meta: str) -> Mapping[str, str]:
    try:
        return _META.decode(meta).partitionKeys
    except (msgspec.DecodeError, RecursionError):
        return {}  # another's meta


def walked(value: bytes, names: Sequence[str], fold: Fold | None = None) -> bytes | Flaw:
    """The value that the names lead to, as jq finds it: nothing is within null, and names are of objects alone."""
    for name in names:
        if value == NULL_TEXT:
            return value
        if not value.startswith(b"{"):
            return Flaw(f"Cannot index {kind(value)} with {msgspec.json.encode(name).decode()}")
        value = member(value, name, fold)
    return value


def member(document: bytes, name: str, fold: Fold | None) -> bytes:
    """What an object has under the name; else the last that it has under one that is folded alike."""
    found = _KEYS.decode(document)
    value = bytes(found.get(name, NULL))
    if value != NULL_TEXT or fold is None:
        return value
    alike = [bytes(one) for key, one in found.items() if fold(key) == fold(name)]
    return next((one for one in reversed(alike) if one != NULL_TEXT), NULL_TEXT)


def kind(value: bytes) -> str:
    """What jq calls a JSON value's type."""
    return KINDS.get(value[:1], "number")


def text_of(value: bytes) -> str:
    """What a string says; anything else as it is written."""
    return _STRING.decode(value) if value.startswith(b'"') else value.decode()
