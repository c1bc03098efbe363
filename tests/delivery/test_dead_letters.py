"""Rejected rows as the error output keeps them."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
from batches import batch as taken
from batches import rows
from hypothesis import given
from hypothesis import strategies as st

from firehose.delivery.dead_letters import CONVERSION, batches, refused_by_intake
from firehose.model import REJECTION_SCHEMA, ROW_SCHEMA, Rejections

TEXT = st.text(max_size=20)


def documents(rejections: Rejections) -> dict[str, list[dict[str, object]]]:
    found = {}
    for batch in batches(taken([b"x"]), rejections, 99):
        lines = [line for part in batch.slices() for line in part.column("record").to_pylist()]
        found[batch.partition] = [json.loads(line) for line in lines]
    return found


@given(st.lists(st.tuples(st.binary(max_size=30), st.sampled_from("ab"), TEXT, TEXT, st.integers(0, 9)), max_size=30))
def test_every_rejection_is_one_line(said: list[tuple[bytes, str, str, str, int]]) -> None:
    """Whatever bytes a record holds and whatever a message says: one line each, by type, in order, to be read back."""
    given_rows = rows([record for record, *_ in said])
    parts = [
        Rejections.of(given_rows.slice(n, 1), kind, code, message, attempts).table
        for n, (_, kind, code, message, attempts) in enumerate(said)
    ]
    found = documents(Rejections(pa.concat_tables([Rejections().table, *parts])))
    assert list(found) == sorted({kind for _, kind, *_ in said})
    for kind, letters in found.items():
        wanted = [one for one in said if one[1] == kind]
        assert [
            (base64.b64decode(str(one["rawData"])), one["errorCode"], one["errorMessage"], one["attemptsMade"])
            for one in letters
        ] == [(record, code, message, attempts) for record, _, code, message, attempts in wanted]
        assert all(letter["attemptEndingTimestamp"] == 99 for letter in letters)


def test_failed_conversions_have_members_of_their_own() -> None:
    """A record that does not convert is one document as AWS writes them, told by its number in the lane; the table that
    a catalogue holds the schema of stands there whole.
    """
    came = rows([b"a", b"b", b"{}"])
    part = came.set_column(2, "part", pa.array([0, 0, 7], pa.int32())).slice(2)
    refused = Rejections.of(part, CONVERSION, "DataFormatConversion.MalformedData", "Data does not match", 3)
    told = {"dataCatalogTable": {"databaseName": "db", "tableName": "t"}}
    extra = refused.table.set_column(8, REJECTION_SCHEMA.field("extra"), pa.array([json.dumps(told)], pa.string()))
    (batch,) = batches(taken([b"x"] * 3, first=1000), Rejections(extra), 99)
    (slice_,) = batch.slices()
    (line,) = slice_.column("record").to_pylist()
    document = json.loads(line)
    assert document == {
        "attemptsMade": 3,
        "arrivalTimestamp": came.column("arrival_ms")[2].as_py(),
        "lastErrorCode": "DataFormatConversion.MalformedData",
        "lastErrorMessage": "Data does not match",
        "attemptEndingTimestamp": 99,
        "rawData": "e30=",
        "sequenceNumber": "1002",
        "subSequenceNumber": 7,
        **told,
    }
    assert list(document)[:3] == ["attemptsMade", "arrivalTimestamp", "lastErrorCode"]


def test_batches_are_like_any_other() -> None:
    """Error batches have the columns of every batch, keep their rows' ordinals, and can be read again."""
    rejections = Rejections.of(rows([b"a", b"b", b"c"]).slice(1), "t", "c", "m")
    (batch,) = batches(taken([b"a", b"b", b"c"]), rejections, 99)
    first, again = ([part.to_pydict() for part in batch.slices()] for _ in range(2))
    assert first == again
    (part,) = batch.slices()
    assert part.schema == ROW_SCHEMA
    assert part.column("row").to_pylist() == [1, 2]


def test_no_rejections_no_batches() -> None:
    """Where nothing was rejected nothing is written."""
    assert list(batches(taken([b"x"]), Rejections(), 99)) == []


def test_what_intake_said_is_split_at_the_first_colon() -> None:
    """Intake's word for a refused row becomes code and message, odd ones too."""
    said = ["TooLarge: 11 > 10: no", "Bare", "Empty:", "Lines: a\nb: c", ": no code"]
    given_rows = rows([b"x"] * len(said)).append_column("refused", pa.array(said, pa.string()))
    table = refused_by_intake(given_rows).table
    assert table.column("code").to_pylist() == [
        "Ingest.TooLarge",
        "Ingest.Bare",
        "Ingest.Empty",
        "Ingest.Lines",
        "Ingest.",
    ]
    assert table.column("message").to_pylist() == ["11 > 10: no", "Bare", "", "a\nb: c", "no code"]
    assert set(table.column("error_type").to_pylist()) == {"ingest-failed"}
