"""Records as answers carry them, written straight from where they lie: no object for a record on the way.

Source: data-streams.md sections 1.2, 2.4 and 2.5. What was encoded lately is kept, for most readers of a shard want
what another has just had; a piece is one commit's records, so that readers at different places share pieces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
from pybase64 import b64encode

from firehose.datastream import sequence
from firehose.datastream.model import Definition, Run, Shard, bytes_of
from firehose.http import cbor
from firehose.http.codec import Codec, JsonCodec, Millis
from firehose.http.shared import MemoryFiles, Piece, Pieces, in_memory

CACHE_BYTES = 32 * 1024 * 1024
BLOB = 2  # CBOR's major type of bytes
ALONE_BYTES = 64 * 1024  # what is as large goes out as it lies there, without a copy
LARGEST_SHARE = 4  # what is larger than such a part of the cache is not kept


class Encoding(Protocol):
    """How records are written in one format. `kind` tells formats apart."""

    kind: str

    def records(self, base: int, first: int, piece: pa.RecordBatch, encrypted: bool) -> bytes:
        """Those of a piece whose first is counted by `first`, as they stand in a list."""
        ...

    def answer(self, pieces: Sequence[Piece], rest: bytes) -> Pieces:
        """A structure that has the records and the members of `rest`, which is one written already."""
        ...


class JsonRecords:
    """Blobs in base64, instants in seconds."""

    kind = "json"

    def records(self, base: int, first: int, piece: pa.RecordBatch, encrypted: bool) -> bytes:
        end = b',"EncryptionType":"KMS"}' if encrypted else b"}"
        written: list[bytes] = []
        text, between = msgspec.json.Encoder().encode, b'{"SequenceNumber":"'
        for numbers, arrival_ms, data, keys in _alike(base, first, piece):
            seconds = b'","ApproximateArrivalTimestamp":%d.%03d,"Data":"' % divmod(arrival_ms, 1000)
            for number, blob, key in zip(numbers, map(b64encode, data), keys, strict=True):
                written += (between, number.encode(), seconds, blob)
                written += (b'"', end) if key is None else (b'","PartitionKey":', text(key), end)
                between = b',{"SequenceNumber":"'
        return b"".join(written)

    def answer(self, pieces: Sequence[Piece], rest: bytes) -> Pieces:
        assert rest != b"{}", "each answer has more than records"
        listed: list[Piece] = [part for piece in pieces for part in (b",", piece)][1:]
        return _pieces(b'{"Records":[', *listed, b"],", rest[1:])


class CborRecords:
    """Blobs as they are, instants tagged, in milliseconds."""

    kind = "cbor"

    def records(self, base: int, first: int, piece: pa.RecordBatch, encrypted: bool) -> bytes:
        end = cbor.dumps("EncryptionType") + cbor.dumps("KMS") + b"\xff" if encrypted else b"\xff"
        number_head, key_head = b"\xbf" + cbor.dumps("SequenceNumber"), cbor.dumps("PartitionKey")
        written: list[bytes] = []
        for numbers, arrival_ms, data, keys in _alike(base, first, piece):
            arrival = cbor.dumps("ApproximateArrivalTimestamp") + cbor.dumps(Millis(arrival_ms))
            data_head = arrival + cbor.dumps("Data")
            for number, blob, key in zip(numbers, data, keys, strict=True):
                written += (number_head, cbor.dumps(number), data_head, cbor.head(BLOB, len(blob)), blob)
                written += (end,) if key is None else (key_head, cbor.dumps(key), end)
        return b"".join(written)

    def answer(self, pieces: Sequence[Piece], rest: bytes) -> Pieces:
        """Of a map of either sort, definite or not, an indefinite one is made."""
        assert rest[0] == 0xBF or 0xA0 < rest[0] < 0xB8, "a small map"
        end = b"" if rest[0] == 0xBF else b"\xff"
        return _pieces(b"\xbf", cbor.dumps("Records"), b"\x9f", *pieces, b"\xff", rest[1:], end)


JSON = JsonRecords()
CBOR = CborRecords()


def encoding(codec: Codec) -> Encoding:
    return JSON if isinstance(codec, JsonCodec) else CBOR


PieceName = tuple[str, str, int, int, int, bool]  # format, stream, shard, first counter, rows, encrypted


class EncodedRecords:
    """Encodes runs, and keeps what it encoded last, up to so many bytes."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[PieceName, Piece] = OrderedDict()
        self._files = MemoryFiles()
        self.kept_bytes = 0

    def names(self, definition: Definition, shard: Shard, run: Run, form: Encoding) -> list[PieceName]:
        """What the run's pieces are kept as."""
        encrypted = definition.key_id is not None
        return [
            (form.kind, definition.id, shard.number, first, piece.num_rows, encrypted) for first, piece in run.pieces
        ]

    def recall(self, names: list[PieceName]) -> list[Piece] | None:
        """Those pieces; None where not all of them are kept."""
        if not all(name in self._kept for name in names):
            return None
        return [self._again(name) for name in names]

    def pieces(self, definition: Definition, shard: Shard, run: Run, form: Encoding) -> list[Piece]:
        encrypted = definition.key_id is not None
        found = list[Piece]()
        for name, (first, piece) in zip(self.names(definition, shard, run, form), run.pieces, strict=True):
            if name in self._kept:
                found.append(self._again(name))
            else:
                found.append(said := form.records(shard.base, first, piece, encrypted))
                self._keep(name, said)
        return found

    def _again(self, name: PieceName) -> Piece:
        """What a second reader wants others will want too: from a memory file it costs each of them less."""
        said = self._kept[name]
        if isinstance(said, bytes):
            said = self._kept[name] = self._files.shared(said)
        self._kept.move_to_end(name)
        return said

    def _keep(self, name: PieceName, said: bytes) -> None:
        if len(said) > self._limit_bytes // LARGEST_SHARE:
            return
        self._kept[name] = said
        self.kept_bytes += len(said)
        while self.kept_bytes > self._limit_bytes:
            self.kept_bytes -= len(self._kept.popitem(last=False)[1])


def children(definition: Definition, shard: Shard) -> list[Mapping[str, Any]]:
    """Those that a closed shard's readers go on with."""
    return [
        {
            "ShardId": child.id,
            "ParentShards": [sequence.shard_id(parent) for parent in child.parents],
            "HashKeyRange": {"StartingHashKey": str(child.start), "EndingHashKey": str(child.end)},
        }
        for child in definition.children(shard.number)
    ]


def size_bytes(run: Run) -> int:
    """Of the records and their keys."""
    return sum(bytes_of(piece) for _, piece in run.pieces)


def _pieces(*parts: Piece) -> Pieces:
    """What is large stands alone: many answers share it. What is small is joined."""
    pieces: list[Piece] = []
    for large, some in groupby(parts, lambda part: len(part) >= ALONE_BYTES):
        alike = tuple(some)
        pieces += alike if large else (b"".join(map(in_memory, alike)),)
    return tuple(pieces)


def _alike(
    base: int, first: int, piece: pa.RecordBatch
) -> Iterable[tuple[list[str], int, list[bytes], list[str | None]]]:
    """Rows that arrived together: their sequence numbers, the arrival, their data and keys."""
    arrivals = piece.column("arrival_ms").to_numpy()
    data, keys = piece.column("record").to_pylist(), piece.column("meta").to_pylist()
    begins = [0, *(np.flatnonzero(np.diff(arrivals)) + 1).tolist()]
    for begin, end in zip(begins, [*begins[1:], len(arrivals)], strict=True):
        arrival_ms = int(arrivals[begin])
        numbers = sequence.numbers(base, first + begin, end - begin, arrival_ms // 1000)
        yield numbers, arrival_ms, data[begin:end], keys[begin:end]
