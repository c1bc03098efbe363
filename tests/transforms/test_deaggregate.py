"""Records that hold several are taken apart, and nothing but what stands between is lost (firehose.md section 8.6)."""

from __future__ import annotations

import json
import time
import tracemalloc

import msgspec
import pytest
from batches import rows
from hypothesis import given
from hypothesis import strategies as st
from put_to_work import made_of, mixed, refused_alone, working

from firehose import config
from firehose.yaml_file import ConfigError
from transforms import deaggregate
from transforms.deaggregate import CODE, ERROR_TYPE, Deaggregate

JSON = working(Deaggregate, sub_record_type="json")


def delimited(delimiter: str) -> object:
    return working(Deaggregate, sub_record_type="delimited", delimiter=delimiter)


@pytest.mark.parametrize(
    ("record", "objects"),
    [
        (b'{"a":1}{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b' {"a":1} \r\n\t {"b":2}{} ', [b'{"a":1}', b'{"b":2}', b"{}"]),
        (b'{"a":\n  1\n}\n{"b": [{}, {}]}', [b'{"a":\n  1\n}', b'{"b": [{}, {}]}']),
        (b'{"a":"}{"}{"b":"\\"}{"}', [b'{"a":"}{"}', b'{"b":"\\"}{"}']),
        (b'{"a":1e400}{"a":12345678901234567890}', [b'{"a":1e400}', b'{"a":12345678901234567890}']),
        (b'{"a":"\xff"}{"a":"\xc3\xa4"}', [b'{"a":"\xff"}', b'{"a":"\xc3\xa4"}']),
    ],
)
@pytest.mark.parametrize("at_once_bytes", [1 << 20, 0], ids=["at once", "by braces"])
def test_objects_are_told_apart(
    record: bytes, objects: list[bytes], at_once_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With blanks between them or nothing, which are lost; each keeps its own bytes. Small and large records alike."""
    monkeypatch.setattr(deaggregate, "AT_ONCE_BYTES", at_once_bytes)
    assert made_of(JSON, record) == objects


@pytest.mark.parametrize("record", [b'{"a":1}', b' {"a": 1}\r\n', b'{\n "a": "}{"\n}', b"", b"\n", b" \t\r\n"])
def test_one_object_or_none_passes_as_it_is(record: bytes) -> None:
    """With the blanks around it: there is nothing to take apart."""
    assert made_of(JSON, record) == [record]


def test_a_slice_of_single_objects_is_not_touched() -> None:
    """The usual case costs no copy."""
    slice_ = rows([b'{"a":1}\n', b"{}"])
    assert JSON(slice_).rows is slice_


NOT_OBJECTS = {
    "array": (
        b'[{"a":1},{"b":2}]',
        "something that is no JSON object; only objects in a row are taken apart",
    ),
    "number": (b"17", "something that is no JSON object"),
    "text": (b"hello", " no "),
    "number behind": (b"{} 1", "no JSON object"),
    "string between": (b'{}"a"{}', "no JSON object"),
    "array between": (b"{}[{}]{}", "no JSON object"),
    "comma between": (b"{},{}", " no "),
    "cut off": (b'{"a":1}{"b":', "the record is no run of JSON objects: Input data was truncated"),
    "cut off in text": (b'{"a":1}{"b":"c\\', " no "),
    "closed twice": (b"{}}", " no "),
    "text behind": (b"{}{}x", " no "),
    "single quotes": (b"{'a':1}", " no "),
    "NaN": (b'{"a":NaN}', " no "),
    "byte order mark": (b"\xef\xbb\xbf{}{}", " no "),
    "deep": (b'{"a":' * 100_000, "the record is nested too deeply"),
    "deep array": (b"{}" + b"[" * 100_000, "the record "),
}


@pytest.mark.parametrize(("record", "says"), NOT_OBJECTS.values(), ids=NOT_OBJECTS)
@pytest.mark.parametrize("at_once_bytes", [1 << 20, 0], ids=["at once", "by braces"])
def test_anything_else_is_refused(
    record: bytes, says: str, at_once_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record as it came, and why. Small and large records alike."""
    monkeypatch.setattr(deaggregate, "AT_ONCE_BYTES", at_once_bytes)
    outcome = JSON(rows([record]))
    (said,) = outcome.refused.table.to_pylist()
    assert (said["record"], said["error_type"], said["code"]) == (record, ERROR_TYPE, CODE)
    assert says in said["message"]


@pytest.mark.parametrize("at_once_bytes", [1 << 20, 0], ids=["at once", "by braces"])
def test_more_than_five_hundred_pass_whole(at_once_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred are taken apart, one more is AWS's bound."""
    monkeypatch.setattr(deaggregate, "AT_ONCE_BYTES", at_once_bytes)
    assert made_of(JSON, b'{"a":1}\n' * 500) == [b'{"a":1}'] * 500
    assert made_of(JSON, b'{"a":1}\n' * 501) == [b'{"a":1}\n' * 501]


def test_parts_are_numbered_and_others_unharmed() -> None:
    """Each part has its record's row and a number of its own; what is refused or single stays in its place."""
    made, refused = mixed(JSON, [b"{}", b'{"a":1}{"b":2}', b"x", b"", b"{}{}\n"])
    assert made == [
        (0, 0, b"{}"), (1, 0, b'{"a":1}'), (1, 1, b'{"b":2}'), (3, 0, b""), (4, 0, b"{}"), (4, 1, b"{}"),
    ]  # fmt: skip
    assert list(refused) == [2]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\{}[],: \n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"{}\\', max_size=3), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text('k"{}\\', max_size=3), values, max_size=4)


@given(
    st.lists(st.tuples(objects, st.sampled_from([None, 1])), min_size=1, max_size=6), st.sampled_from(["", "\n", " "])
)
def test_what_was_joined_is_taken_apart(given: list[tuple[dict[str, object], int | None]], between: str) -> None:
    """Any objects, indented or not, come back byte for byte, however their record is looked at."""
    texts = [json.dumps(one, indent=indent, ensure_ascii=False).encode() for one, indent in given]
    record = between.encode().join(texts)
    assert made_of(JSON, record) == texts
    assert list(deaggregate._objects_by_braces(record)) == texts


@given(st.text('{}"\\ a1[]:,', max_size=24).map(str.encode))
def test_both_ways_of_looking_agree(record: bytes) -> None:
    """Small and large records are taken apart, or refused, alike."""
    assert verdict(deaggregate._VALUE.decode_lines, record) == verdict(deaggregate._objects_by_braces, record)


def verdict(look: object, record: bytes) -> list[bytes] | None:
    try:
        values = [bytes(value) for value in look(record)]  # type: ignore[operator]
    except (msgspec.DecodeError, deaggregate.NotObjects):
        return None
    return values if all(value.startswith(b"{") for value in values) else None


LARGE = {
    "many objects": b"{}" * 4_000_000,
    "escapes": b'{"a":"' + b"\\" * 8_000_000,
    "quotes": b'{}"' + b'\\"' * 4_000_000,
    "openings": b"{}" + b"{" * 8_000_000,
    "closings": b"{}" + b"}" * 8_000_000,
    "numbers": b"{}" + b"1 " * 4_000_000,
}


@pytest.mark.parametrize("record", LARGE.values(), ids=LARGE)
def test_large_records_take_little_time_and_memory(record: bytes) -> None:
    """Whatever stands in them: in proportion to their size, and nothing is made for values that are not asked for."""
    slice_ = rows([record])
    begun = time.process_time()
    JSON(slice_)
    assert time.process_time() - begun < 5
    tracemalloc.start()
    try:
        JSON(slice_)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(record)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("delimiter", "record", "pieces"),
    [
        ("####", b"a####b####c", [b"a", b"b", b"c"]),
        ("####", b"a####b####", [b"a", b"b"]),
        ("####", b"####a", [b"", b"a"]),
        ("####", b"a########b", [b"a", b"", b"b"]),
        ("####", b"####", [b""]),
        ("####", b"a###b", [b"a###b"]),
        ("####", b"", [b""]),
        ("newline", b"a\nb\n", [b"a", b"b"]),
        ("newline", b"a\r\nb", [b"a\r", b"b"]),
        ("\u00e4", "x\u00e4y".encode(), [b"x", b"y"]),
        ("##", b"a###b", [b"a", b"#b"]),
        (".", b"a.b", [b"a", b"b"]),
    ],
)
def test_pieces_are_told_apart(delimiter: str, record: bytes, pieces: list[bytes]) -> None:
    """The delimiter is plain text; it is lost, and at the record's end it makes no empty piece."""
    assert made_of(delimited(delimiter), record) == pieces  # type: ignore[arg-type]


def test_more_than_five_hundred_pieces_pass_whole() -> None:
    """With every delimiter, beside records that are taken apart."""
    many = b"x," * 501
    made, refused = mixed(delimited(","), [b"a,b", many, b"c,", many[2:]])  # type: ignore[arg-type]
    assert made[:4] == [(0, 0, b"a"), (0, 1, b"b"), (1, 0, many), (2, 0, b"c")]
    assert made[4:] == [(3, part, b"x") for part in range(500)]
    assert refused == {}


def test_the_delimiter_may_be_given_as_aws_takes_it() -> None:
    """In base64."""
    transform = working(Deaggregate, sub_record_type="delimited", delimiter_base64="IyMjIw==")
    assert made_of(transform, b"a####b") == [b"a", b"b"]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "sub_record_type: is missing; give it a value"),
        ({"sub_record_type": "xml"}, "sub_record_type: input should be 'json' or 'delimited'"),
        ({"sub_record_type": "delimited"}, "sub_record_type delimited needs delimiter or delimiter_base64, and one of"),
        ({"sub_record_type": "delimited", "delimiter": "a", "delimiter_base64": "YQ=="}, "and one of them only"),
        ({"sub_record_type": "json", "delimiter": "a"}, "no delimiter stands between JSON objects; leave it out, or"),
        ({"sub_record_type": "delimited", "delimiter": "none"}, "delimiter: none separates nothing; give newline, or"),
        ({"sub_record_type": "delimited", "delimiter": ""}, "delimiter: string should have at least 1 character"),
        ({"sub_record_type": "delimited", "delimiter_base64": "===="}, "delimiter_base64: is not base64"),
        ({"sub_record_type": "delimited", "delimiter_base64": "#"}, "delimiter_base64: is not base64; give the delim"),
    ],
)
def test_wrong_options_are_told(keys: dict[str, str], says: str) -> None:
    """With the key and the way out."""
    block = {"type": "deaggregate", **keys}
    with pytest.raises(ConfigError) as refused:
        config.stream("app", {"transforms": [block], "destination": {"type": "folder", "path": "out"}})
    assert says in str(refused.value)


def test_refusals_say_why_one_by_one() -> None:
    """A record that is alone is refused as it is in company."""
    assert refused_alone(JSON, b"[1]") == mixed(JSON, [b"{}", b"[1]"])[1][1]
