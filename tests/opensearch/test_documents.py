"""Lines of bulk requests: whatever the records are, each document has its two lines, and says what its record said."""

from __future__ import annotations

import json

import pyarrow as pa
from batches import rows, segment
from hypothesis import given
from hypothesis import strategies as st

from firehose.opensearch.documents import Documents, on_one_line
from firehose.parcels import Parcel

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
JSON = st.builds(
    lambda value, indent, around: (around + json.dumps(value, indent=indent) + around).encode(),
    VALUES,
    st.sampled_from([None, 1, "\r\n"]),
    st.sampled_from(["", "\n", "\r\n", " "]),
)
RECORDS = st.lists(
    JSON | st.binary(max_size=8) | st.sampled_from([b"{}\n{}", b'{"delete":{}}\n{}', b"{\n}"]), max_size=8
)


def is_document(record: bytes) -> bool:
    try:
        return isinstance(json.loads(record.decode()), dict)
    except ValueError:
        return False


@given(RECORDS, st.integers(0, 8))
def test_each_document_has_its_two_lines(records: list[bytes], cut: int) -> None:
    """Every JSON object stands on one line and means what it meant, and nothing makes a line that is another's."""
    whole = rows(records)
    kept, wrong = on_one_line(pa.Table.from_batches([whole.slice(0, cut), whole.slice(cut)]))
    assert sorted(kept.column("row").to_pylist() + wrong.column("row").to_pylist()) == list(range(len(records)))
    assert not any(is_document(record) for record in wrong.column("record").to_pylist())
    if not kept.num_rows:
        return
    parcel = Parcel(segment(records), "", 0, len(records), kept)
    body = Documents("app").body(parcel, kept)
    *lines, last = body.split(b"\n")
    assert (last, len(lines)) == (b"", 2 * kept.num_rows)
    assert all(set(json.loads(line)) == {"index"} for line in lines[::2])
    for line, row in zip(lines[1::2], kept.column("row").to_pylist(), strict=True):
        if is_document(records[row]):
            assert json.loads(line) == json.loads(records[row])
    assert len(body) <= int(Documents("app").sizes(kept.column("record").combine_chunks()).sum())


def test_ids_are_fixed() -> None:
    """The id of a document never changes from one release to the next: a repeat after an upgrade must overwrite."""
    ids = Documents("app").ids(segment([b"x"], first=7), "", rows([b"x", b"y"])).to_pylist()
    assert ids == [f"00677282827396504437431299950029614290{row:018d}.0" for row in (7, 8)]
