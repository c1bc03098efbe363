"""Records as JSON: what is one value, where its newline is, and what is said of all else."""

from __future__ import annotations

import pytest

from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson

VALUES = [b"{}", b' {"a": [1, 2.50, "\\u00e9"]} ', b'"\xc3\xa9"', b"null", b"-0", b"1e5", b"12345678901234567890123"]
OTHERS = {
    b"": "truncated",
    b"{} {}": "trailing characters",
    b'{"a":1,}': "trailing comma",
    b'{"a":NaN}': "invalid character",
    b"01": "invalid number",
    b"\xef\xbb\xbf1": "invalid character",
    b'"\xff"': "",
    b'{"\xc3":1}': "",
    b"[" * 5000 + b"]" * 5000: "nested too deep",
}


@pytest.mark.parametrize("value", VALUES)
def test_text(value: bytes) -> None:
    """One JSON value is handed on as it is."""
    assert json_record.text(value) == value.decode()


@pytest.mark.parametrize(("value", "said"), OTHERS.items())
def test_not_json(value: bytes, said: str) -> None:
    """Whatever is not strictly one JSON value is refused with a reason, read or not."""
    for read in (json_record.text, json_record.fields):
        with pytest.raises(NotJson) as error:
            read(value)
        assert said in str(error.value)
        assert str(error.value)


def test_fields() -> None:
    """An object's fields are told; of several that have one name, the last."""
    assert json_record.fields(b'{"a": 1, "b": [null], "a": 2}') == {"a": 2, "b": [None]}


@pytest.mark.parametrize("value", [b"[]", b"1", b'"{}"', b"null"])
def test_fields_of_what_is_no_object(value: bytes) -> None:
    """A value that is no object has no fields."""
    with pytest.raises(NotJson, match="it is not an object"):
        json_record.fields(value)


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        (b"a", (b"a", b"")),
        (b"a\n", (b"a", b"\n")),
        (b"a\r\n", (b"a", b"\r\n")),
        (b"a\n\n", (b"a\n", b"\n")),
        (b"\r", (b"\r", b"")),
        (b"\n", (b"", b"\n")),
        (b"", (b"", b"")),
    ],
)
def test_parted(record: bytes, parts: tuple[bytes, bytes]) -> None:
    """A record is its value and the one newline at its end."""
    assert json_record.parted(record) == parts
