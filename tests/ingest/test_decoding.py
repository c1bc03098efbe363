"""Content-Encoding is undone exactly, within the limit, or not at all (ingest-clients.md sections 1 and 4.1)."""

from __future__ import annotations

import contextlib
import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable

import cramjam
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from firehose.inflating import TooLarge
from firehose.ingest.decoding import MAX_ENCODINGS, Undecodable, decode

LIMIT = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
LINES = b'{"level":"info","message":"hello"}\n' * 40


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(body) + stream.flush()


def snappy_block(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def snappy_framed(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress(body))


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.compress),
    "snappy": ("snappy", snappy_block),
    "framed snappy": ("snappy", snappy_framed),
}
each_encoder = pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=list(ENCODERS))


@pytest.mark.parametrize("header", ["", "identity", " , ", "Identity, identity"])
def test_nothing_to_undo_copies_nothing(header: str) -> None:
    """A body without encodings comes back as the very same object."""
    assert decode(LINES, header, LIMIT) is LINES


@each_encoder
@given(body=st.binary(max_size=2000).filter(lambda body: not body.startswith(GZIP_MAGIC)))
def test_each_encoding_is_undone(name: str, encode: Callable[[bytes], bytes], body: bytes) -> None:
    """What an agent encodes comes back byte for byte."""
    assert decode(encode(body), name, LIMIT) == body


@each_encoder
def test_bodies_larger_than_a_block_are_whole(name: str, encode: Callable[[bytes], bytes]) -> None:
    """Inflating in blocks loses nothing where they meet."""
    body = bytes(range(256)) * 16_384
    assert decode(encode(body), name, len(body)) == body


@given(names=st.lists(st.sampled_from(list(ENCODERS)), max_size=MAX_ENCODINGS))
def test_a_list_is_undone_last_to_first(names: list[str]) -> None:
    """Encodings are listed in the order of their use, so the last one comes off first."""
    body = LINES
    for name in names:
        body = ENCODERS[name][1](body)
    assert decode(body, ", ".join(ENCODERS[name][0] for name in names), LIMIT) == LINES


def test_names_are_matched_in_any_case() -> None:
    """Header values are case-insensitive, and blanks and empty items in the list mean nothing."""
    assert decode(zstandard.compress(gzip.compress(LINES)), " GZip ,, ZSTD ", LIMIT) == LINES


@pytest.mark.parametrize(
    ("name", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress)], ids=["gzip", "zstd"]
)
def test_streams_of_several_members_are_joined(name: str, encode: Callable[[bytes], bytes]) -> None:
    """Agents append compressed chunks to one another; empty ones in between end nothing."""
    body = encode(b"one\n") + encode(b"") + encode(b"two\n") + encode(b"")
    assert decode(body, name, LIMIT) == b"one\ntwo\n"


def test_gzip_may_be_padded_with_zeros() -> None:
    """Zero bytes behind the last member are padding, not damage."""
    assert decode(gzip.compress(LINES) + b"\0" * 9, "gzip", LIMIT) == LINES


@pytest.mark.parametrize("header", ["", "gzip", "zstd"])
def test_gzip_that_no_header_names_is_undone(header: str) -> None:
    """A body that still starts like gzip is inflated once more, and only once."""
    once = gzip.compress(LINES)
    twice = gzip.compress(once)
    encoded = {"": twice, "gzip": gzip.compress(twice), "zstd": zstandard.compress(twice)}[header]
    assert decode(encoded, header, LIMIT) == once


@pytest.mark.parametrize("header", ["", "deflate", "zstd", "snappy"])
def test_a_body_that_only_starts_like_gzip_stays(header: str) -> None:
    """Where nobody spoke of gzip, two bytes prove nothing, and the body is kept as it is."""
    odd = GZIP_MAGIC + b" is how it starts"
    encode = dict(ENCODERS.values()).get(header, bytes)
    assert decode(encode(odd), header, LIMIT) == odd


def test_a_sender_of_gzip_is_taken_at_his_word() -> None:
    """Where the header names gzip, a second layer that cannot be inflated is an error."""
    with pytest.raises(Undecodable):
        decode(gzip.compress(GZIP_MAGIC + b" broken"), "gzip", LIMIT)


@pytest.mark.parametrize("header", ["br", "aws-chunked", "gzip, br", "gzip;q=1"])
def test_unknown_encodings_are_named(header: str) -> None:
    """An encoding that we do not know is refused by its name."""
    with pytest.raises(Undecodable) as raised:
        decode(LINES, header, LIMIT)
    assert header.split(", ")[-1] in raised.value.reason


def test_encodings_are_bounded() -> None:
    """More than three encodings are refused before the first is undone."""
    with pytest.raises(Undecodable, match="more than 3"):
        decode(b"not gzip", ", ".join(["gzip"] * (MAX_ENCODINGS + 1)), LIMIT)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "snappy"])
def test_an_empty_body_is_empty(name: str) -> None:
    """A probe without a body may name an encoding all the same."""
    assert decode(b"", name, LIMIT) == b""


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "framed snappy"])
def test_truncated_streams_are_refused(kind: str) -> None:
    """However early a stream ends, no part of it is handed out."""
    name, encode = ENCODERS[kind]
    whole = encode(LINES)
    for size in range(1, len(whole)):
        with pytest.raises(Undecodable):
            decode(whole[:size], name, LIMIT)


def test_truncated_snappy_frames_are_refused() -> None:
    """A framed stream says nothing of its end, but none may end inside a chunk."""
    whole = snappy_framed(LINES)
    for size in range(11, len(whole)):
        with pytest.raises(Undecodable):
            decode(whole[:size], "snappy", LIMIT)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate", "zstd", "snappy", "framed snappy"])
def test_bytes_behind_the_end_are_refused(kind: str) -> None:
    """Garbage behind a stream is no part of it, and dropping it would lose data."""
    name, encode = ENCODERS[kind]
    with pytest.raises(Undecodable):
        decode(encode(LINES) + b"{garbage}" * 9, name, LIMIT)


@each_encoder
@given(data=st.data())
def test_damage_never_escapes_as_another_error(
    name: str, encode: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    """A damaged stream is undecodable or too large, or its damage lay where no checksum reaches."""
    damaged = bytearray(encode(LINES))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Undecodable, TooLarge):
        assert isinstance(decode(bytes(damaged), name, LIMIT), bytes)


@each_encoder
@pytest.mark.parametrize("size", [1000, LIMIT + (1 << 19)])
def test_the_limit_is_exact(name: str, encode: Callable[[bytes], bytes], size: int) -> None:
    """A body of exactly the limit passes, one byte more does not."""
    body = encode(b"x" * size)
    assert len(decode(body, name, size)) == size
    with pytest.raises(TooLarge) as raised:
        decode(body, name, size - 1)
    assert raised.value.limit_bytes == size - 1


def test_the_limit_holds_without_encoding() -> None:
    """A plain body is held to the same limit."""
    assert decode(b"abc", "", 3) == b"abc"
    with pytest.raises(TooLarge):
        decode(b"abcd", "", 3)


BOMBS = {**ENCODERS, "gzip that no header names": ("", gzip.compress)}


@pytest.mark.parametrize(("name", "encode"), BOMBS.values(), ids=list(BOMBS))
def test_a_bomb_allocates_no_more_than_the_limit_and_a_block(name: str, encode: Callable[[bytes], bytes]) -> None:
    """A body that inflates a thousandfold is given up at the limit, not after it is inflated."""
    bomb = encode(b"\0" * (LIMIT * 64))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decode(bomb, name, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMIT  # the limit and a block are 1 MiB each here, and a buffer that grows is there twice


@pytest.mark.parametrize("declared", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x04"])
def test_a_declared_size_is_refused_before_it_is_allocated(declared: bytes) -> None:
    """Five bytes of snappy that promise gigabytes cost nothing."""
    with pytest.raises(TooLarge):
        decode(declared + b"\0x", "snappy", LIMIT)


def test_snappy_chunks_that_are_not_compressed_count_too() -> None:
    """What does not compress is stored plainly in a framed stream, and counts towards the limit all the same."""
    noise = random.Random(1).randbytes(200_000)
    assert decode(snappy_framed(noise), "snappy", len(noise)) == noise
    with pytest.raises(TooLarge):
        decode(snappy_framed(noise), "snappy", len(noise) - 1)


def test_a_stream_of_tiny_snappy_chunks_is_bounded() -> None:
    """Endless empty chunks are given up after a fixed number of them."""
    with pytest.raises(Undecodable, match="chunks"):
        decode(snappy_framed(b"x") + b"\xfe\0\0\0" * 70_000, "snappy", LIMIT)


@pytest.mark.parametrize("flag", [0x02, 0x04, 0x08, 0x10], ids=["checksum", "extra", "name", "comment"])
@pytest.mark.parametrize("header", ["gzip", ""])
def test_a_gzip_header_without_end(flag: int, header: str) -> None:
    """A header that goes on for a megabyte is damage like any other; without a word of gzip it is no header at all."""
    body = b"\x1f\x8b\x08" + bytes([flag]) + bytes(5) + b"\3" + b"\xff" * (1 << 20)
    if not header:
        assert decode(body, header, len(body)) is body
        return
    with pytest.raises(Undecodable, match=r"^gzip: "):
        decode(body, header, len(body))


STARTS = {
    "gzip": [b"\x1f\x8b\x08" + bytes([flags]) for flags in (0, 2, 4, 8, 16, 31, 255)],
    "deflate": [b"\x78\x9c", b"\x78\xbb", b"\x78\x01", b"\x4b"],
    "zstd": [b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\x28\xb5\x2f\xfd\x20"],
    "snappy": [b"\xff\x06\x00\x00sNaPpY", b"\xff\x06\x00\x00sNaPpY\x00", b"\x0a"],
}


@pytest.mark.parametrize("name", ["", *STARTS])
@given(data=st.data())
def test_any_bytes_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    """Whatever a body is, it is decoded, undecodable or too large, and never more than the limit."""
    start = data.draw(st.sampled_from([b"", *STARTS.get(name, STARTS["gzip"])]))
    body = start + data.draw(st.binary(max_size=60)) + bytes(data.draw(st.sampled_from([0, 0, 7, 70_000])))
    with contextlib.suppress(Undecodable, TooLarge):
        assert len(decode(body, name, 1000)) <= 1000


MANY = {
    "gzip members": ("gzip", gzip.compress(b"x")),
    "empty gzip members": ("gzip", gzip.compress(b"")),
    "zstd frames": ("zstd", zstandard.compress(b"")),
    "skippable zstd frames": ("zstd", b"\x50\x2a\x4d\x18\0\0\0\0"),
    "deflate blocks": ("deflate", b"\0\0\0\xff\xff"),
    "snappy chunks": ("snappy", b"\xfe\0\0\0"),
}


@pytest.mark.parametrize("kind", MANY)
def test_time_is_in_proportion(kind: str) -> None:
    """A body of four times as many tiny members takes about four times as long, not sixteen."""
    name, member = MANY[kind]
    start = {"deflate": b"\x78\x01", "snappy": snappy_framed(b"")}.get(name, b"")

    def seconds(size_bytes: int) -> float:
        body = start + member * (size_bytes // len(member))
        before = time.process_time()
        with contextlib.suppress(Undecodable):
            decode(body, name, size_bytes)
        return time.process_time() - before

    assert min(seconds(1 << 20) for _ in range(2)) < 10 * seconds(1 << 18) + 0.05
