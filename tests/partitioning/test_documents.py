"""Records that are read many at once give what each of them gives by itself."""

from __future__ import annotations

import msgspec
import pytest
from batches import rows
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from firehose.partitioning import documents
from firehose.partitioning.documents import Documents, Text

ODD = (
    *(b'{"a":1}', b'{"a":2}\n', b'{"a":3}\r\n', b'{"b":1}', b'{"a":1,"a":2}', b"{}", b'{\n"a":\n4}'),
    *(b'{"a":"\\u0041"}', b'{"a":"\\ud800"}', b'{"a":"\\ud83d\\ude00"}', b'{"a":"\\x"}', b'{"a":null}'),
    *(b'{"a":1}{"a":2}', b'{"a":1}\n{"a":2}\n', b'{"a":1', b'"b":2}', b'{"a":{"a":1}', b"}", b"{", b'{"a":1,', b"{}}"),
    *(b"", b"\n", b" ", b"5", b"null", b'"text"', b"[1]", b'{"a":NaN}', b'{"a":1}x', b' {"a":1} ', b"{}5{}", b"{},"),
    *(b'{"a":"}', b'{"}', b'{"a":"\n"}', b'{"a":"\xff"}', b'{"b":"\xff"}', b'{"\xc3\xa4":1}', b'{"a":1}\0'),
    b"{" * 3000,
)


def alone(record: bytes) -> Text:
    """What the strict parser says of one record's field `a`."""
    try:
        record.decode()
        msgspec.json.decode(record, type=Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        return plain((bytes(msgspec.json.decode(record, type=dict[str, Raw]).get("a", b"null")),))
    except msgspec.DecodeError:
        return record


def plain(text: Text) -> Text:
    """Strings without the escapes that they need not have."""
    return tuple(map(_plain, text)) if isinstance(text, tuple) else text


def _plain(value: bytes) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(value, type=str))
    except msgspec.DecodeError:
        return value


def read(*slices: list[bytes]) -> list[Text]:
    codes, found = Documents(["a"], handed=False).read(map(rows, slices))
    return [plain(found.texts[code]) for code in codes.tolist()]


@pytest.mark.parametrize("one", ODD)
def test_an_odd_record_and_its_neighbours(one: bytes) -> None:
    """Before, between and behind good ones."""
    good = [b'{"a":"x"}', b'{"b":0,"a":"y"}\n']
    for records in ([one], [one, *good], [good[0], one, good[1]], [*good, one], [one, one, good[0]]):
        assert read(records) == [alone(record) for record in records]


@example([b'{"a":1,', b'"b":2}', b'{"a":1}{"a":2}'])
@given(st.lists(st.sampled_from(ODD), max_size=6))
def test_odd_records_side_by_side(records: list[bytes]) -> None:
    """Two wrongs make no right: halves of a document in neighbouring records are not one."""
    assert read(records) == [alone(record) for record in records]


def test_slices() -> None:
    """Of several slices each row has a place of its own, and what is alike in two of them the same text."""
    good, odd = [b'{"a":"x"}', b'{"a":"y"}'], [b'{"a":"x"}', b'{"a":7}', b""]
    assert read(good, odd, [], good) == [alone(record) for record in (*good, *odd, *good)]


@pytest.mark.parametrize("odd", [b'{"a":5}', b"{}", b'{"a":null}', b'{"a":"\\ud800"}'])
def test_strings_and_others(odd: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings that are read as such, and then other values beside them: nothing is lost, and nothing mixed up."""
    monkeypatch.setattr(documents, "AT_ONCE", 2)
    strings = [b'{"a":"%d"}' % number for number in range(5)]
    records = [*strings, odd, *strings]
    assert read(records) == [alone(record) for record in records]


def test_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are those of the records however many are read at once."""
    records = [b'{"a":%d}' % number for number in range(7)]
    for at_once in (1, 3, 7, 100):
        monkeypatch.setattr(documents, "AT_ONCE", at_once)
        assert read(records) == [(b"%d" % number,) for number in range(7)]
