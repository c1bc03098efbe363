"""Documents are found wherever they stand, and one that is damaged hides none of the others."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.letters import documents as module
from firehose.letters.documents import LIMIT_BYTES, documents

MEMBERS = st.dictionaries(st.text(max_size=3), st.text(max_size=8) | st.integers(), max_size=3)


def cut(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def told(content: bytes, size: int = 7) -> list[object]:
    """Each document's line, with its members, or with the offset where a damaged one begins."""
    return [(one.line, one.offset if one.problem else one.members) for one in documents(cut(content, size))]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1}\n{"a":2}\n',
        b'{"a":1}\r\n\r\n{"a":2}',
        b'{"a":1}{"a":2}',
        b' {"a":1} {"a":2}\n\n',
        b'\xef\xbb\xbf{"a":1}\n{"a":2}\n',
        b'{\n  "a": 1\n}\n{\n  "a": 2\n}\n',
        b'{"a":1}\n\n  {"a":2}',
    ],
)
def test_layouts(content: bytes, size: int) -> None:
    """One a line, back to back, indented, with blank lines or a byte order mark: the documents are the same."""
    assert told(content, size) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a":1}\n{"a":\n{"a":3}\n', [(1, {"a": 1}), (2, 8), (3, {"a": 3})]),
        (b'{"a":1}\nnonsense\n{"a":3}\n', [(1, {"a": 1}), (2, 8), (3, {"a": 3})]),
        (b'{"a":1}{"a":oh}{"a":3}', [(1, {"a": 1}), (2, 7), (3, {"a": 3})]),
        (b'nonsense {"a":2}', [(1, 0), (2, {"a": 2})]),
        (b'{"a":"\xc3\xa4\xff"}\n{"a":', [(1, {"a": "ä\udcff"}), (2, 12)]),
        (b'[1]\n{"a":2}', [(1, 0), (2, {"a": 2})]),
        (b'{"a":1}\n{"a":2', [(1, {"a": 1}), (2, 8)]),
        (b'{"a":' + b"[" * 100_000 + b'\n{"a":2}', [(1, 0), (2, {"a": 2})]),
        (b'{"a":' + b"1" * 5000 + b'x}\n{"a":2}', [(1, 0), (2, {"a": 2})]),
    ],
)
def test_damage(content: bytes, expected: list[object]) -> None:
    """What is cut off, overwritten, no object or nested without end is told with its place; the rest is read."""
    assert told(content) == expected


@given(st.lists(MEMBERS), st.sampled_from([b"", b"\n", b"\r\n", b"  ", b"\n\n"]), st.integers(1, 40))
def test_every_document_is_found(many: list[dict[str, object]], between: bytes, size: int) -> None:
    """Whatever documents hold, whatever stands between them and wherever pieces end, each is found once."""
    content = between.join(json.dumps(one).encode() for one in many)
    found = list(documents(cut(content, size)))
    assert [one.members for one in found] == many
    assert [one.line for one in found] == list(range(1, len(many) + 1))


@given(st.lists(MEMBERS, min_size=1), st.data())
def test_a_damaged_line_hides_no_other(many: list[dict[str, object]], data: st.DataObject) -> None:
    """Whatever one line is overwritten with, the others are found, in their places where it held no document more."""
    lines = [json.dumps(one).encode() for one in many]
    hit = data.draw(st.integers(0, len(lines) - 1))
    lines[hit] = data.draw(st.binary(max_size=20)).replace(b"\n", b"")
    found = [one.members for one in documents([b"\n".join(lines)]) if not one.problem]
    for one in [*many[:hit], *many[hit + 1 :]]:
        assert one in found
        found.remove(one)


def test_a_store_that_breaks_off() -> None:
    """What came before is read, and then the failure passes."""

    def broken() -> Iterator[bytes]:
        yield b'{"a":1}\n{"a":2}'
        raise ConnectionError("gone")

    found = documents(broken())
    assert [next(found).members, next(found).members] == [{"a": 1}, {"a": 2}]
    with pytest.raises(ConnectionError):
        next(found)


def test_back_to_back_without_end() -> None:
    """Documents that never see a newline are handed on in little memory."""
    piece = (b'{"a":"}{"' + b" " * 500 + b"}") * 600
    tracemalloc.start()
    found = sum(not one.problem for one in documents(repeat(piece, 80)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 80 * 600
    assert peak < 8 * module.STRETCH_BYTES


def test_a_document_without_end() -> None:
    """What is longer than any document is told as damage, in bounded memory, and the next one is read."""
    piece = b"x" * (1 << 20)
    content = [b'{"a":"', *repeat(piece, (LIMIT_BYTES >> 20) + 2), b'"}\n{"a":2}']
    good = [one.members for one in documents(content) if not one.problem]
    assert good == [{"a": 2}]
