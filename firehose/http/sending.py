"""An answer on its way into a socket, past the transport: where parts of it lie in memory files, the kernel sends these
from there without a copy. While one is under way nobody else may write: the transport knows nothing of these bytes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from firehose.http.shared import Piece, Pieces, SharedPiece, can_be_spared, in_memory

TURN_BYTES = 4 * 1024 * 1024  # at once, however much room there is: others have their turn in between


def send(transport: asyncio.Transport, pieces: Pieces, sent: Callable[[], None]) -> Sending | None:
    """What is under way, and calls `sent` in a later turn of the loop; None where the transport has taken it all."""
    its = transport.get_extra_info("socket")
    shared = any(isinstance(piece, SharedPiece) for piece in pieces)
    if shared and its is not None and not transport.get_write_buffer_size():
        try:
            own = socket.socket(its.family, its.type, its.proto, fileno=os.dup(its.fileno()))
        except OSError:
            pass  # no descriptor is left
        else:
            if can_be_spared(own.fileno()):
                return Sending(transport, own, pieces, sent)
            own.close()
    transport.writelines([in_memory(piece) for piece in pieces])
    return None


class Sending:
    """Goes on whenever the socket has room, until all is sent or it is stopped. A connection that it finds broken it
    aborts, and whoever is told of that stops it. `own` is a second descriptor of the transport's socket: a loop lets
    nobody watch the transport's.
    """

    def __init__(
        self, transport: asyncio.Transport, own: socket.socket, pieces: Pieces, sent: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._own = own
        self._pieces = list(reversed(pieces))
        self._at = 0  # of the last of them, which is the next to go
        self._sent = sent
        self._loop.add_writer(own, self._go_on)

    def stop(self) -> None:
        """Called once."""
        self._loop.remove_writer(self._own)
        self._own.close()
        self._pieces.clear()

    def _go_on(self) -> None:
        left = TURN_BYTES
        try:
            while self._pieces and left > 0:
                left -= self._send(left)
        except BlockingIOError:
            return
        except OSError:
            self._transport.abort()
            return
        if not self._pieces:
            self.stop()
            self._sent()

    def _send(self, most_bytes: int) -> int:
        """How many bytes went."""
        piece, at = self._pieces[-1], self._at
        size = self._send_of(piece, at, min(most_bytes, len(piece) - at))
        self._at += size
        if self._at == len(piece):
            self._pieces.pop()
            self._at = 0
        return size

    def _send_of(self, piece: Piece, at: int, most_bytes: int) -> int:
        if isinstance(piece, SharedPiece):
            try:
                return os.sendfile(self._own.fileno(), piece.descriptor, at, most_bytes)
            except (BlockingIOError, ConnectionError):
                raise
            except OSError:
                pass  # some sandboxes refuse it; where it is the connection, to send fails alike
        more = socket.MSG_MORE if len(self._pieces) > 1 else 0  # no packet of its own for a comma
        return self._own.send(memoryview(in_memory(piece))[at : at + most_bytes], more)
