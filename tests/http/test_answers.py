"""Answers in bytes: the last one is remembered, and only where it is the same in everything."""

from __future__ import annotations

from firehose.http.answers import JOINED_BYTES, Answers
from firehose.http.shared import in_memory
from firehose.http.wire import Reply

NOW, LATER = [(b"date", b"now")], [(b"date", b"later")]


def test_remembered() -> None:
    """The same reply at the same time is put together once, and anything else anew."""
    answers, reply = Answers(), Reply(200, b"yes")
    first = answers.pieces(reply, NOW, True)
    head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: application/json\r\ncontent-length: 3\r\n"
    assert first == (head + b"\r\nyes",)
    assert answers.pieces(reply, NOW, True) is first
    assert answers.pieces(reply, NOW, False) == (head + b"connection: close\r\n\r\nyes",)
    assert b"date: later" in in_memory(answers.pieces(reply, LATER, True)[0])
    assert bytes(in_memory(answers.pieces(Reply(200, b"no"), LATER, True)[0])).endswith(b"\r\n\r\nno")
    assert answers.pieces(reply, NOW, True) == first


def test_large() -> None:
    """A large answer stays in its pieces, none of them copied or kept."""
    answers, reply = Answers(), Reply(200, b"a" * JOINED_BYTES)
    first = answers.pieces(reply, NOW, True)
    assert first[1] is reply.body
    assert answers.pieces(reply, NOW, True) is not first
