"""Records read for their keys' sake: each distinct set of the few fields that keys are made of, once.

Cheap: msgspec looks over a record of 500 bytes in less than a microsecond, checks it strictly and makes nothing but the
fields asked for; and many records in one go, where it cannot mix them up. It takes half of what pyarrow's reader takes
with a schema as narrow, which also accepts some records that are no JSON. Whatever is made of the fields is then made
for distinct ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw

from firehose.json_lines import JsonLines
from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson

NOT_JSON = "Non JSON record provided"  # AWS's own words
NULL = Raw(b"null")
KINDS = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}
Codes = np.ndarray[tuple[int], np.dtype[np.int32]]
AT_ONCE = 1024  # records: one that is no JSON makes so many be read one by one
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a record has no value for a key."""

    message: str


Value = str | Flaw


# A record's fields as they are written; the record itself, where these cannot stand for it; None for what is no JSON.
Text = tuple[bytes, ...] | bytes | None


@dataclass(frozen=True, slots=True)
class Found:
    """What keys are made of: of all records that are alike in it, once."""

    names: Sequence[str]  # of the fields
    texts: Sequence[Text]
    handed: Sequence[Mapping[str, str]]  # the partition keys that the user's code returned

    def values(
        self, names: Sequence[str], made: Callable[[bytes], Value], alike: Callable[[bytes], bytes] = bytes
    ) -> list[Value]:
        """What is made of the value that the names lead to, of each text. Fields for which `alike` says the same are
        known to come to the same.
        """

        def value(start: bytes, rest: Sequence[str]) -> Value:
            reached = walked(start, rest)
            return reached if isinstance(reached, Flaw) else made(reached)

        place = self.names.index(names[0]) if self.names else 0
        known: dict[bytes, Value] = {}
        ends: list[Value] = []
        for text in self.texts:
            if isinstance(text, tuple):
                start = alike(text[place])
                if start not in known:
                    known[start] = value(text[place], names[1:])
                ends.append(known[start])
            else:
                ends.append(Flaw(NOT_JSON) if text is None else value(text.strip(), names))
        return ends


class Documents:
    """Reads the named fields of records; whole records where no names are given."""

    def __init__(self, names: Sequence[str] | None, handed: bool) -> None:
        self._names = names
        self._handed = handed
        fields = [(f"f{place}", Raw, NULL) for place, _ in enumerate(names or ())]
        renamed = {f"f{place}": name for place, name in enumerate(names or ())}
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Fields", fields, rename=renamed, gc=False))
        self._fields = [attrgetter(name) for name in renamed]

    def read(self, rows: pa.RecordBatch) -> tuple[Codes, Found]:
        """What there is, and for each row at which place in that."""
        texts = self._texts(rows.column("record"))
        handed: Sequence[str | None] = [None] * len(texts)
        if self._handed and "meta" in rows.schema.names:
            handed = rows.column("meta").to_pylist()
        pairs = list(zip(texts, handed, strict=True))
        seen = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        codes = np.fromiter(map(seen.__getitem__, pairs), np.int32, len(pairs))
        keys = [_handed(meta) if meta else {} for _, meta in seen] if self._handed else []
        return codes, Found(self._names or (), [text for text, _ in seen], keys)

    def _texts(self, records: pa.BinaryArray) -> list[Text]:
        if self._names is None:
            return [_whole(record) for record in records.to_pylist()]
        if not self._names:
            return [()] * len(records)
        if _is_utf8(records):
            return [text for texts in self._piece_texts(records) for text in texts]
        good = [_whole(record) for record in records.to_pylist()]
        return [self._field_texts([one])[0] if one is not None else None for one in good]

    def _piece_texts(self, records: pa.BinaryArray) -> Iterator[Sequence[Text]]:
        lines = JsonLines.of(records)
        framed = lines.framed()
        for start in range(0, len(lines), AT_ONCE):
            end = min(start + AT_ONCE, len(lines))
            texts = self._texts_at_once(lines, start, end) if framed[start:end].all() else None
            yield self._field_texts(records[start:end].to_pylist()) if texts is None else texts

    def _texts_at_once(self, lines: JsonLines, start: int, end: int) -> Sequence[Text] | None:
        """Of framed records, all of which are JSON; None where that is not sure. Each has a document at least, since
        none goes on behind a record's end (see `json_lines`): as many as there are records are one each.
        """
        try:
            found = self._decoder.decode_lines(lines.piece(start, end))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(found) != end - start:
            return None
        return list(zip(*(map(bytes, map(field, found)) for field in self._fields), strict=True))

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


def walked(value: bytes, names: Sequence[str]) -> bytes | Flaw:
    """The value that the names lead to, as jq finds it: nothing is within null, and names are of objects alone."""
    for name in names:
        if value == b"null":
            return value
        if not value.startswith(b"{"):
            return Flaw(f"Cannot index {kind(value)} with {msgspec.json.encode(name).decode()}")
        value = bytes(_KEYS.decode(value).get(name, NULL))
    return value


def kind(value: bytes) -> str:
    """What jq calls a JSON value's type."""
    return KINDS.get(value[:1], "number")


def text_of(value: bytes) -> str:
    """What a string says; anything else as it is written."""
    return msgspec.json.decode(value, type=str) if value.startswith(b'"') else value.decode()
