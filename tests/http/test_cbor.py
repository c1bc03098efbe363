"""AWS's CBOR: the reference's vectors, everything a client may write, and that nothing odd passes or takes long."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.http import aws_json
from firehose.http.aws_json import ApiError
from firehose.http.cbor import DEPTH, VALUES, CborCodec, dumps, head, loads
from firehose.http.codec import LAST_MILLISECOND, Codec, JsonCodec, Millis

PUT = "bf6a53747265616d4e616d65617364446174614268696c506172746974696f6e4b65796161ff"
INSTANT = "c11b00000153e2db26d0"
SHAPE = aws_json.structure(
    StreamName=aws_json.required(aws_json.text(1, 8, "[a-z]+")),
    Data=aws_json.blob(0, 4),
    At=aws_json.timestamp(),
    Limit=aws_json.integer(1, 10),
    Enabled=aws_json.boolean(),
    Keys=aws_json.list_of(aws_json.text(1, 3), 1, 20),
    Tags=aws_json.map_of(aws_json.text(1, 3), aws_json.text(0, 3), 1, 3),
    Records=aws_json.list_of(aws_json.structure(Data=aws_json.required(aws_json.blob(0, 4))), 1, 3),
)
CODEC = CborCodec()
CODECS = [CODEC, JsonCodec()]
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.integers(-LAST_MILLISECOND, LAST_MILLISECOND).map(Millis),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner.filter(lambda value: value is not None)),
    max_leaves=20,
)


def indefinite(value: Any) -> bytes:
    """As the Java SDKs write: lists and maps that a break ends; texts and blobs in pieces, as they may be."""
    if isinstance(value, dict):
        return b"\xbf" + b"".join(indefinite(name) + indefinite(item) for name, item in value.items()) + b"\xff"
    if isinstance(value, list):
        return b"\x9f" + b"".join(map(indefinite, value)) + b"\xff"
    if isinstance(value, bytes):
        return b"\x5f" + dumps(value[:2]) + dumps(value[2:]) + b"\xff"
    if isinstance(value, str):
        return b"\x7f" + dumps(value[:2]) + dumps(value[2:]) + b"\xff"
    return dumps(value)


def alike(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(alike(one[name], other[name]) for name in one)
    return not isinstance(one, list) or all(map(alike, one, other))


def refused(codec: Codec, body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        codec.read(body, SHAPE)
    return caught.value


def test_vectors() -> None:
    """The bytes that AWS's own clients write mean what they mean there."""
    assert loads(bytes.fromhex(PUT)) == {"StreamName": "s", "Data": b"hi", "PartitionKey": "a"}
    assert alike(loads(bytes.fromhex(INSTANT)), Millis(1459799926480))
    assert dumps(Millis(1459799926480)).hex() == INSTANT
    assert dumps({"a": [b"hi", "s", -1, True, None]}).hex() == "a1616185426869617320f5f6"


@given(plain)
@pytest.mark.parametrize("write", [dumps, indefinite])
def test_round_trip(write: Callable[[Any], bytes], value: Any) -> None:
    """What is written is read as the same values of the same types, however their lengths are given."""
    assert alike(loads(write(value)), value)


@given(st.integers(0, (1 << 64) - 1), st.sampled_from([(24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")]))
def test_long_numbers(value: int, size: tuple[int, str]) -> None:
    """A number may be written longer than it needs to be."""
    info, form = size
    value %= 1 << 8 * struct.calcsize(form)
    assert loads(bytes([info]) + struct.pack(form, value)) == value
    assert loads(bytes([0x20 | info]) + struct.pack(form, value)) == -1 - value


@pytest.mark.parametrize("number", ["f93e00", "fa3fc00000", "fb3ff8000000000000"])
def test_floats(number: str) -> None:
    """Floats of each size are read; in an instant they are milliseconds like its integers, rounded."""
    assert loads(bytes.fromhex(number)) == 1.5
    assert alike(loads(bytes.fromhex("c1" + number)), Millis(2))


@given(plain, st.data())
def test_cut(value: Any, data: st.DataObject) -> None:
    """A body that ends too soon, wherever, is refused; so is one that goes on."""
    for body in (dumps(value), indefinite(value)):
        with pytest.raises(ValueError, match="ends too soon"):
            loads(body[: data.draw(st.integers(0, len(body) - 1))])
        with pytest.raises(ValueError, match="follows"):
            loads(body + b"\x00")


@given(st.binary(max_size=200))
def test_garbage(body: bytes) -> None:
    """Bytes at random are a value or a ValueError, and nothing else."""
    try:
        loads(body)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "body",
    [
        "1c", "1f", "3f", "5e", "df", "ff", "f7", "f818", "e0",  # heads that begin no value
        "a10161ff", "bf0101ff", "c06131", "c2411f", "c16131", "c1f5", "c1c101", "c1f97e00", "c1f97c00",
        "61ff", "62c328", "63eda080",  # no UTF-8
        "5f6161ff", "7f4161ff", "5f5f4161ffff", "7f01ff",  # pieces of another kind, or without an end of their own
        "bf6161ff",  # a name without a value
    ],
)  # fmt: skip
def test_odd(body: str) -> None:
    """What the protocol has no use for is refused: other tags, names that are no texts, texts that are no UTF-8."""
    with pytest.raises(ValueError):
        loads(bytes.fromhex(body))


@pytest.mark.parametrize(
    "body",
    [
        b"\x81" * (DEPTH + 1) + b"\x00",
        b"\xa1\x61a" * (DEPTH + 1) + b"\x00",
        b"\x9f" * 1_000_000,
        b"\xc1" * 1_000_000,
        b"\x9a\xff\xff\xff\xff" + b"\x00" * 1_000_000,
        b"\x5f" + b"\x40" * 1_000_000 + b"\xff",
        b"\xbf" + b"\x61a\x00" * 1_000_000 + b"\xff",
    ],
    ids=["lists", "maps", "deep", "tags", "many", "pieces", "entries"],
)
def test_bounds(body: bytes) -> None:
    """Nothing is nested deeper, and no body has more values, than the bounds say, however long it goes on."""
    with pytest.raises(ValueError, match=f"more than {VALUES} values, or is nested more than {DEPTH} deep"):
        loads(body)


@pytest.mark.parametrize("kind", [2, 3, 4, 5])
def test_promised_length(kind: int) -> None:
    """A length of 2**64 - 1 is not believed: nothing is set aside for what has not come."""
    with pytest.raises(ValueError, match="ends too soon"):
        loads(head(kind, (1 << 64) - 1))


def test_members() -> None:
    """A request has its modelled members, each as its kind says; null and absent are the same."""
    body = {
        "StreamName": "s",
        "Data": b"\x00\xff",
        "At": Millis(7),
        "Limit": None,
        "Unknown": [[1.5]],
        "Tags": {"a": "b"},
    }
    wanted = {"StreamName": "s", "Data": b"\x00\xff", "At": 7, "Tags": {"a": "b"}}
    found = CODEC.read(indefinite(body), SHAPE)
    assert found == wanted
    assert type(found["At"]) is Millis


@pytest.mark.parametrize(
    "member",
    [
        {"StreamName": b"s"}, {"StreamName": 1}, {"Data": "aGk="}, {"Data": 1}, {"At": 7}, {"At": 7.5}, {"At": "7"},
        {"Limit": True}, {"Limit": 1.0}, {"Limit": Millis(1)}, {"Enabled": 1}, {"Keys": {}}, {"Tags": []},
        {"Records": [b"x"]}, {"Tags": {"a": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_types(member: dict[str, Any]) -> None:
    """A value of another kind is a SerializationException; so are blobs in base64, and instants without their tag."""
    assert refused(CODEC, dumps({"StreamName": "s", **member})).code == "SerializationException"


@pytest.mark.parametrize("body", [b'{"At":-1e308}', b'{"At":253402300800}', b'{"At":9999999999999999999}'])
def test_instants_out_of_range(body: bytes) -> None:
    """An instant that no calendar knows is refused, in both codecs."""
    assert refused(JsonCodec(), body).code == "SerializationException"
    for number in ("1b7fffffffffffffff", "fb7fe0000000000000", "fbfff0000000000000"):
        assert refused(CODEC, b"\xa1" + dumps("At") + bytes.fromhex("c1" + number)).code == "SerializationException"


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"\x80", b"\xf6", dumps({"StreamName": "s"})[:-1]])
def test_unreadable(body: bytes) -> None:
    """What is no CBOR, or no map, is a SerializationException."""
    assert refused(CODEC, body).code == "SerializationException"


@pytest.mark.parametrize("codec", CODECS, ids=["cbor", "json"])
def test_constraints(codec: Codec) -> None:
    """Both codecs complain of the same constraints in the same words, as the data stream's clients know them."""
    records = [{"Data": b"12345"}, {}]
    refusal = refused(codec, codec.write({"StreamName": "S", "Limit": 11, "Data": b"12345", "Records": records}))
    blob = "Value 'java.nio.HeapByteBuffer[pos=0 lim=5 cap=5]' at"
    rule = "failed to satisfy constraint: Member must"
    assert refusal.code == "ValidationException"
    assert refusal.message == (
        f"5 validation errors detected: Value 'S' at 'streamName' {rule} satisfy regular expression pattern: [a-z]+; "
        f"{blob} 'data' {rule} have length less than or equal to 4; "
        f"Value '11' at 'limit' {rule} have value less than or equal to 10; "
        f"{blob} 'records.1.member.data' {rule} have length less than or equal to 4; "
        f"Value null at 'records.2.member.data' {rule} not be null"
    )


@pytest.mark.parametrize("codec", CODECS, ids=["cbor", "json"])
def test_ten_violations(codec: Codec) -> None:
    """Of many violations the first ten are told."""
    refusal = refused(codec, codec.write({"StreamName": "s", "Keys": ["long"] * 20}))
    assert refusal.message.startswith("10 validation errors detected: Value 'long' at 'keys.1.member' failed")
    assert refusal.message.count("failed to satisfy") == 10


@pytest.mark.parametrize("codec", CODECS, ids=["cbor", "json"])
def test_own_answers(codec: Codec) -> None:
    """What a codec writes it reads: members that are None are left out, at any depth."""
    written = codec.write({"StreamName": "s", "Data": b"\x00", "At": Millis(1538160219636), "Limit": None})
    assert codec.read(written, SHAPE) == {"StreamName": "s", "Data": b"\x00", "At": 1538160219636}
