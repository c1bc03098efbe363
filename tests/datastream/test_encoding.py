"""Records as answers carry them, against what the codecs themselves say of the same records."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pybase64 import b64decode

from firehose.datastream import sequence
from firehose.datastream.encoding import ALONE_BYTES, CBOR, JSON, EncodedRecords, Encoding, encoding, size_bytes
from firehose.datastream.model import SHARD_SCHEMA, Definition, Run, Shard
from firehose.http import cbor
from firehose.http.cbor import CborCodec
from firehose.http.codec import Codec, JsonCodec, Millis
from firehose.http.shared import SHARED_BYTES, Piece, SharedPiece, in_memory

SHARD = Shard(3, 0, sequence.KEY_SPACE - 1, 1_700_000_000, 1_700_000_000_000)
CLICKS = Definition("clicks", "clicks-1", 0, "ACTIVE", "PROVISIONED", (SHARD,))
REST = {"NextShardIterator": "token", "MillisBehindLatest": 5}
CODECS: list[Codec] = [JsonCodec(), CborCodec()]
REST_OF: dict[Encoding, bytes] = {encoding(codec): codec.write(REST) for codec in CODECS}
SIZES = [(50, SHARED_BYTES), (60, SHARED_BYTES), (70, 1000)]  # of records, and where they stand
Row = tuple[bytes, int, str | None]
rows = st.lists(
    st.tuples(
        st.binary(max_size=300), st.integers(0, 3000), st.none() | st.text(st.characters(exclude_categories=["Cs"]))
    ),
    max_size=8,
)


def piece_of(said: list[Row]) -> pa.RecordBatch:
    data, arrivals, keys = [one[0] for one in said], sorted(one[1] for one in said), [one[2] for one in said]
    return pa.RecordBatch.from_arrays(
        [pa.array(data, pa.binary()), arrivals, pa.array(keys, pa.string())], schema=SHARD_SCHEMA
    )


def expected(first: int, piece: pa.RecordBatch, encrypted: bool) -> list[dict[str, Any]]:
    """Each record by itself, as an answer has it."""
    found = []
    for row, said in enumerate(piece.to_pylist()):
        number = sequence.number(SHARD.base, first + row, said["arrival_ms"] // 1000)
        record = {
            "SequenceNumber": number,
            "ApproximateArrivalTimestamp": Millis(said["arrival_ms"]),
            "Data": said["record"],
            "PartitionKey": said["meta"],
            "EncryptionType": "KMS" if encrypted else None,
        }
        found.append({name: value for name, value in record.items() if value is not None})
    return found


def read(form: Encoding, answer: bytes) -> dict[str, Any]:
    """The answer's members, blobs and instants as an operation has them."""
    if form is CBOR:
        said: dict[str, Any] = cbor.loads(answer)
        return said
    said = json.loads(answer)
    for record in said["Records"]:
        record["Data"] = b64decode(record["Data"], validate=True)
        record["ApproximateArrivalTimestamp"] = Millis(round(record["ApproximateArrivalTimestamp"] * 1000))
    return said


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@given(st.integers(0, 2**50), st.lists(rows, max_size=3), st.data(), st.booleans())
def test_records_are_written_as_the_codec_would(
    codec: Codec, first: int, runs: list[list[Row]], data: st.DataObject, encrypted: bool
) -> None:
    """Any records, in pieces of any size, cut anywhere, are those that went in, beside what else is said."""
    pieces = []
    for said in runs:
        piece, begin = piece_of(said), data.draw(st.integers(0, len(said)))
        if len(said) > begin:
            pieces.append((first + begin, piece.slice(begin, data.draw(st.integers(1, len(said) - begin)))))
        first += len(said) + data.draw(st.sampled_from([0, 1, 1 << 40]))
    form = encoding(codec)
    run = Run(tuple(pieces), 0)
    definition = Definition("clicks", "clicks-1", 0, "ACTIVE", "PROVISIONED", key_id="key" if encrypted else None)
    answer = form.answer(EncodedRecords().pieces(definition, SHARD, run, form), codec.write(REST))
    wanted = [record for first, piece in pieces for record in expected(first, piece, encrypted)]
    assert read(form, b"".join(map(in_memory, answer))) == {"Records": wanted, **REST}


def test_an_instant_has_its_thousandths() -> None:
    """In JSON it is a number of seconds."""
    written = JSON.records(SHARD.base, 1, piece_of([(b"x", 1_700_000_000_007, "k")]), False)
    (record,) = json.loads(b"[%b]" % written)
    assert record["ApproximateArrivalTimestamp"] == 1_700_000_000.007


def test_what_was_encoded_is_encoded_once() -> None:
    """For whoever reads the same; other shards, formats, places and keys are other records."""
    kept = EncodedRecords()
    run = Run(((7, piece_of([(b"x", 0, "k"), (b"y", 0, "k")])),), 9)
    (said,) = kept.pieces(CLICKS, SHARD, run, JSON)
    assert kept.pieces(CLICKS, SHARD, run, JSON)[0] is said
    others = [
        kept.pieces(CLICKS, SHARD, run, CBOR)[0],
        kept.pieces(CLICKS, Shard(4, 0, 1, 1, 1), run, JSON)[0],
        kept.pieces(CLICKS, SHARD, Run(((7, run.pieces[0][1].slice(0, 1)),), 8), JSON)[0],
        kept.pieces(CLICKS, SHARD, Run(((8, run.pieces[0][1].slice(1)),), 9), JSON)[0],
        kept.pieces(Definition("clicks", "clicks-1", 0, "ACTIVE", "PROVISIONED", key_id="k"), SHARD, run, JSON)[0],
        kept.pieces(Definition("clicks", "clicks-2", 0, "ACTIVE", "PROVISIONED"), SHARD, run, JSON)[0],
    ]
    assert all(other is not said for other in others)


@pytest.mark.parametrize("form", [JSON, CBOR], ids=lambda form: form.kind)
def test_answers_share_what_is_large(form: Encoding) -> None:
    """No answer has a copy of it; of small ones an answer is in few pieces."""
    rest = next(codec for codec in CODECS if encoding(codec) is form).write(REST)
    sizes = [10, ALONE_BYTES, 10, 10, ALONE_BYTES, 10]
    encoded: list[Piece] = [form.records(SHARD.base, 7, piece_of([(b"x" * size, 0, "k")]), False) for size in sizes]
    answer = form.answer(encoded, rest)
    assert [one for one in answer if len(one) >= ALONE_BYTES] == [encoded[1], encoded[4]]
    assert answer[1] is encoded[1]
    assert answer[3] is encoded[4]
    assert len(answer) == 5
    assert [len(one["Data"]) for one in read(form, b"".join(map(in_memory, answer)))["Records"]] == sizes


def test_what_is_kept_is_bounded() -> None:
    """The oldest goes first, and what is too large for the whole is not kept at all."""
    kept = EncodedRecords(limit_bytes=4000)
    runs = [Run(((number, piece_of([(b"x" * 300, 0, "k")])),), number + 1) for number in range(20)]
    first = kept.pieces(CLICKS, SHARD, runs[0], JSON)[0]
    for run in runs[1:]:
        kept.pieces(CLICKS, SHARD, run, JSON)
        assert kept.kept_bytes <= 4000
    assert kept.kept_bytes > 3000
    assert kept.pieces(CLICKS, SHARD, runs[0], JSON)[0] is not first
    last = kept.pieces(CLICKS, SHARD, runs[-1], JSON)[0]
    large = Run(((50, piece_of([(b"x" * 2000, 0, "k")])),), 51)
    assert kept.pieces(CLICKS, SHARD, large, JSON)[0] is not kept.pieces(CLICKS, SHARD, large, JSON)[0]
    assert kept.pieces(CLICKS, SHARD, runs[-1], JSON)[0] is last


@pytest.mark.parametrize("form", [JSON, CBOR], ids=lambda form: form.kind)
def test_what_is_wanted_again_is_laid_where_many_share_it(form: Encoding) -> None:
    """Not before, and only what is large: all answers have the same bytes, those too that have them longer than they
    are kept, and the bound counts both sorts.
    """
    large, other, small = (Run(((at, piece_of([(b"x" * size, 0, "k")])),), at + 1) for at, size in SIZES)
    kept = EncodedRecords(limit_bytes=6 * SHARED_BYTES)
    (first,), (again,), (third,) = (kept.pieces(CLICKS, SHARD, large, form) for _ in range(3))
    assert isinstance(first, bytes)
    assert isinstance(again, SharedPiece)
    assert third is again
    names = kept.names(CLICKS, SHARD, small, form)
    kept.pieces(CLICKS, SHARD, small, form)
    assert kept.recall(names) == kept.recall(names) == kept.pieces(CLICKS, SHARD, small, form)
    assert b"".join(map(in_memory, form.answer([again], REST_OF[form]))) == b"".join(
        map(in_memory, form.answer([first], REST_OF[form]))
    )
    for at in range(9):
        kept.pieces(CLICKS, SHARD, Run(((at, other.pieces[0][1]),), at + 1), form)
        assert kept.kept_bytes <= 6 * SHARED_BYTES
    assert kept.recall(kept.names(CLICKS, SHARD, large, form)) is None
    assert bytes(in_memory(again)) == first


def test_the_size_of_a_run() -> None:
    """Its records and its keys, whatever lies around them."""
    piece = piece_of([(b"x" * 1000, 0, "k" * 100)] * 10).slice(3, 2)
    assert 2200 <= size_bytes(Run(((0, piece),), 2)) <= 2240
