"""An object's compression is undone by what its bytes say, and given up where they are damaged."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Iterator

import pytest

from firehose.compression import CODECS, codec
from firehose.letters.unpacking import Damaged, unpacked

CONTENT = b"".join(b'{"n":%d,"text":"all work and no play"}\n' % number for number in range(20_000))


def packed(name: str, content: bytes = CONTENT) -> bytes:
    return b"".join(bytes(piece) for piece in codec(name).compress([content], "entry"))


def cut(content: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def gather(pieces: Iterator[bytes], into: bytearray) -> None:
    for piece in pieces:
        into += piece


@pytest.mark.parametrize("size", [3, 5000, 1 << 30])
@pytest.mark.parametrize("name", CODECS)
def test_codecs(name: str, size: int) -> None:
    """Whatever our codecs write is read, however it comes in."""
    assert b"".join(unpacked(cut(packed(name), size))) == CONTENT


@pytest.mark.parametrize("name", CODECS)
def test_nothing(name: str) -> None:
    """Nothing, compressed, is nothing."""
    assert b"".join(unpacked(cut(packed(name, b"")))) == b""


def test_several_members() -> None:
    """A gzip of several members is all of them, and an archive of several entries all of these."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("a", b"one")
        written.writestr("b", b"two")
    assert b"".join(unpacked(cut(gzip.compress(b"one") + gzip.compress(b"two")))) == b"onetwo"
    assert b"".join(unpacked(cut(archive.getvalue()))) == b"onetwo"


@pytest.mark.parametrize("name", [name for name in CODECS if name != "none"])
def test_cut_off(name: str) -> None:
    """Of an object that ends too early there is what can be had, and it is told. An archive has its directory last."""
    whole = packed(name)
    found = bytearray()
    with pytest.raises(Damaged, match=name):
        gather(unpacked(cut(whole[: len(whole) * 2 // 3])), found)
    assert CONTENT.startswith(bytes(found))
    assert found or name == "zip"


@pytest.mark.parametrize("name", [name for name in CODECS if name != "none"])
def test_every_damaged_byte(name: str) -> None:
    """No byte that is overwritten brings about anything but content or `Damaged`."""
    whole = packed(name, CONTENT[:400])
    for place in range(len(whole)):
        try:
            size = sum(map(len, unpacked(cut(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]))))
        except Damaged:
            continue
        assert size < 1 << 20


@pytest.mark.parametrize("name", CODECS)
def test_a_store_that_breaks_off(name: str) -> None:
    """A failure of the store is told as such, not as damage of the object."""

    def broken() -> Iterator[bytes]:
        yield packed(name)[:2000]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        list(unpacked(broken()))


def test_a_bomb() -> None:
    """An object that grows a thousandfold takes little memory."""
    bomb = gzip.compress(bytes(200 << 20), 9)
    tracemalloc.start()
    assert sum(map(len, unpacked(cut(bomb)))) == 200 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20
