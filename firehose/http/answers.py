"""Replies in the bytes of HTTP/1.1. The last one is remembered: where one event comes per request, all who are answered
within a second are told the same, and to put that together is a good part of what a request costs.
"""

from __future__ import annotations

from http import HTTPStatus

from firehose.http.shared import Pieces, in_memory
from firehose.http.wire import Reply

JOINED_BYTES = 64 * 1024  # of an answer: to put a larger one behind its head costs more than a write of its own
STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}

Common = list[tuple[bytes, bytes]]  # the server's own headers: another list when they change, as the date does


class Answers:
    """Of one server's connections."""

    def __init__(self) -> None:
        self._last: tuple[Reply, Common, bool] | None = None
        self._pieces: Pieces = ()

    def pieces(self, reply: Reply, common: Common, keep_alive: bool) -> Pieces:
        """One, unless the answer is so large that several writes are cheaper; such a one is not remembered."""
        last = self._last
        if last is not None and last[0] is reply and last[1] is common and last[2] is keep_alive:
            return self._pieces
        pieces = _pieces(reply, common, keep_alive)
        if len(pieces) == 1:
            self._last, self._pieces = (reply, common, keep_alive), pieces
        return pieces


def _pieces(reply: Reply, common: Common, keep_alive: bool) -> Pieces:
    lines = [b"%b: %b\r\n" % header for header in (*common, *reply.headers)]
    pieces = reply.pieces or (reply.body,)
    size_bytes = sum(map(len, pieces))
    end = b"content-length: %d\r\n%b\r\n" % (size_bytes, b"" if keep_alive else b"connection: close\r\n")
    head = b"".join((STATUS_LINES[reply.status], *lines, end))
    return (b"".join((head, *map(in_memory, pieces))),) if size_bytes < JOINED_BYTES else (head, *pieces)
