"""CloudWatch Logs subscription data comes out of its gzip, exactly or not at all (firehose.md sections 8.6 and 17)."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from batches import rows
from put_to_work import made_of, mixed, refused_alone, working

from firehose.delivery.outcomes import transformed
from transforms import decompress
from transforms.append_delimiter import AppendDelimiter
from transforms.deaggregate import Deaggregate
from transforms.decompress import CODE, ERROR_TYPE, Decompress

MIB = 1 << 20


def envelope(*messages: str, kind: str = "DATA_MESSAGE") -> bytes:
    events = [{"id": f"{at:056d}", "timestamp": 1510109208016, "message": said} for at, said in enumerate(messages)]
    whole = {"messageType": kind, "owner": "123456789012", "logGroup": "g", "logStream": "s", "logEvents": events}
    return json.dumps(whole, ensure_ascii=False).encode()


CHECK = envelope("CWL CONTROL MESSAGE: Checking health of destination Firehose.", kind="CONTROL_MESSAGE")


@pytest.mark.parametrize("inside", [envelope("a"), CHECK, b' [1, "\xc3\xa4"]\n', b"{}", b'{"a":1}' + b" " * 300_000])
def test_json_passes_as_it_is(inside: bytes) -> None:
    """Without extraction the decompressed JSON is the record, byte for byte, whatever it says."""
    assert made_of(working(Decompress), gzip.compress(inside)) == [inside]


def test_members_and_padding() -> None:
    """A stream may be several gzip members, one after the other, and may be padded with zeros."""
    packed = gzip.compress(b'{"a":') + gzip.compress(b"") + gzip.compress(b"1}") + bytes(8)
    assert made_of(working(Decompress), packed) == [b'{"a":1}']


def test_messages_become_one_record() -> None:
    """Each message of a DATA_MESSAGE is followed by a newline, and all of them are one record."""
    transform = working(Decompress, message_extraction=True)
    assert made_of(
        transform, gzip.compress(envelope("one", "", "zwei \u00e4\U0001f600", 'with "quotes"\nand lines\n'))
    ) == ['one\n\nzwei \u00e4\U0001f600\nwith "quotes"\nand lines\n\n'.encode()]
    assert made_of(transform, gzip.compress(envelope())) == [b""]


def test_a_control_message_becomes_an_empty_record() -> None:
    """It is not dropped: each record that came ends as one, and an empty one adds nothing to an object."""
    outcome = working(Decompress, message_extraction=True)(rows([gzip.compress(CHECK)]))
    assert outcome.rows.column("record").to_pylist() == [b""]
    assert (len(outcome.refused), len(outcome.dropped)) == (0, 0)


PACKED = gzip.compress(envelope("a"))
BROKEN = {
    "empty": (b"", "the record is empty, and so not gzip"),
    "plain": (envelope("a"), "the record is not gzip"),
    "cut off": (PACKED[:-1], "the gzip stream is damaged or followed by other bytes: Compressed file ended before"),
    "cut off early": (PACKED[:11], "the gzip stream is damaged or followed by other bytes: Compressed file ended"),
    "magic alone": (PACKED[:2], "the gzip stream is damaged or followed by other bytes: "),
    "checksum": (PACKED[:-8] + bytes(4) + PACKED[-4:], "damaged or followed by other bytes: CRC check failed"),
    "trailing bytes": (PACKED + b"\n", "the gzip stream is damaged or followed by other bytes: "),
    "second cut off": (PACKED + PACKED[:20], "the gzip stream is damaged or followed by other bytes: "),
    "gzip in gzip": (gzip.compress(PACKED), "the record is gzip inside gzip: compress it once"),
    "text": (gzip.compress(b"hello"), "what the record holds is not JSON: "),
    "nothing": (gzip.compress(b""), "what the record holds is not JSON: "),
    "two values": (PACKED + PACKED, "what the record holds is not JSON: JSON is malformed: trailing characters"),
    "not UTF-8": (gzip.compress(b'{"a":"\xff"}'), "what the record holds is not JSON: 'utf-8' codec can't decode"),
    "deep": (gzip.compress(b'{"a":' * 100_000), "what the record holds is nested too deeply"),
    "bomb": (gzip.compress(bytes(3 * MIB)), "the record makes more than 2 MiB: raise limit_mib, or send less"),
    "bomb of bombs": (gzip.compress(bytes(2 * MIB)) * 50, "the record makes more than 2 MiB: raise limit_mib"),
}


@pytest.mark.parametrize("extraction", [False, True])
@pytest.mark.parametrize(("record", "says"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_decompressed_is_refused(record: bytes, says: str, extraction: bool) -> None:
    """Nothing of it is passed on; the error says what is wrong."""
    transform = working(Decompress, message_extraction=extraction, limit_mib=2)
    assert says in refused_alone(transform, record)


def test_the_error_is_the_one_that_aws_was_seen_to_write() -> None:
    """Its type, code and attempts, the record as it came, and no function."""
    (said,) = working(Decompress)(rows([b"\x1f\x8b broken"])).refused.table.to_pylist()
    assert (said["error_type"], said["code"]) == ("decompression-failed", "Decompression failed.") == (ERROR_TYPE, CODE)
    assert (said["record"], said["attempts"], said["function"]) == (b"\x1f\x8b broken", 1, None)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (envelope("a", kind="METRIC"), "its messageType 'METRIC' is not DATA_MESSAGE or CONTROL_MESSAGE"),
        (b'{"messageType":"DATA_MESSAGE"}', "the DATA_MESSAGE has no logEvents"),
        (b'{"logEvents":[]}', "no CloudWatch Logs data: Object missing required field `messageType`"),
        (
            b'{"messageType":"DATA_MESSAGE","logEvents":[{}]}',
            "Object missing required field `message`",
        ),
        (b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":7}]}', "no CloudWatch Logs data: Expected `str`"),
        (b"[]", "what the record holds is no CloudWatch Logs data: Expected `object`, got `array`"),
        (b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":"\xff"}]}', "is not JSON: 'utf-8' codec"),
    ],
)
def test_with_extraction_other_envelopes_are_refused(inside: bytes, says: str) -> None:
    """They pass without it where they are JSON at all."""
    assert says in refused_alone(working(Decompress, message_extraction=True), gzip.compress(inside))


def test_bad_records_spoil_no_others() -> None:
    """Records side by side end each in its own way, in order."""
    made, refused = mixed(working(Decompress), [b"x", gzip.compress(b"1"), b"", gzip.compress(b"2"), PACKED[:9]])
    assert made == [(1, 0, b"1"), (3, 0, b"2")]
    assert list(refused) == [0, 2, 4]


def test_a_record_at_the_limit_passes() -> None:
    """The limit is the largest that passes; one byte more does not."""
    inside = b'"%s"' % (b"x" * (MIB - 2))
    assert made_of(working(Decompress, limit_mib=1), gzip.compress(inside)) == [inside]
    assert "more than 1 MiB" in refused_alone(working(Decompress, limit_mib=1), gzip.compress(inside + b" "))


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    """A hundred MiB of zeros are not held to find that they are too many."""
    bomb = gzip.compress(bytes(100 * MIB))
    transform = working(Decompress, limit_mib=2)
    tracemalloc.start()
    try:
        transform(rows([bomb] * 3))
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()


def test_records_of_a_slice_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is reached a record is refused that would pass alone; smaller ones behind it still pass."""
    monkeypatch.setattr(decompress, "SLICE_BYTES", 2 * MIB)
    large, small = gzip.compress(b'"%s"' % bytes(b"x" * MIB)), gzip.compress(b"1")
    made, refused = mixed(working(Decompress, limit_mib=2), [large, large, small])
    assert [row for row, _, _ in made] == [0, 2]
    assert refused == {1: "the record and those before it make more than 2 MiB: replay it by itself"}


def test_with_the_other_steps_each_message_is_a_record() -> None:
    """Decompressed, taken apart and ended, as the example has it: parts of one record, in order."""
    chain = [
        working(Decompress, message_extraction=True),
        working(Deaggregate, sub_record_type="delimited", delimiter="newline"),
        working(AppendDelimiter),
    ]
    outcome = transformed(rows([gzip.compress(envelope("a", "b")), gzip.compress(envelope("c")), b"x"]), chain)
    columns = [outcome.rows.column(name).to_pylist() for name in ("row", "part", "record")]
    assert list(zip(*columns, strict=True)) == [(0, 0, b"a\n"), (0, 1, b"b\n"), (1, 0, b"c\n")]
    assert outcome.refused.table.column("row").to_pylist() == [2]
