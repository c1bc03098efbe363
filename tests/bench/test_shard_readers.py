"""The bench's readers count what they are sent, however it is cut."""

from __future__ import annotations

import socket

import pytest
from bench.shard_readers import RECORD, Reader, Room

RECORDS = b",".join([RECORD + b":0}"] * 3)
HEAD_BYTES = len(b"HTTP/1.1 200 OK\r\ncontent-length: 00\r\n\r\n")


def answer(following: bytes) -> bytes:
    body = b'{"Records":[%b],"NextShardIterator":"%b"}' % (RECORDS, following)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("cut", range(HEAD_BYTES + 1, len(answer(b"second"))))
def test_an_answer_in_two_pieces(cut: int) -> None:
    """Each record counts once, wherever the answer is cut behind its head, and the next request has its iterator."""
    room, whole = Room(), answer(b"second")
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = Reader(server.getsockname()[1], "first", 6)
        peer, _ = server.accept()
        with reader.socket, peer:
            assert b'"first"' in peer.recv(1000)
            for piece in (whole[:cut], whole[cut:]):
                peer.sendall(piece)
                assert reader.readable(room)
            assert (reader.records, reader.answers) == (3, 1)
            assert b'"second"' in peer.recv(1000)
            peer.sendall(answer(b"third"))
            assert not reader.readable(room)
            assert (reader.records, reader.answers) == (6, 2)
