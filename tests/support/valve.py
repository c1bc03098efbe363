"""A way to a server on loopback that lets only so much through: who sends over it can be met in the middle, however
late the test comes to look.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE_BYTES = 1 << 12


class Valve:
    """Of what clients send, all connections together, `opened` tells how many bytes may pass; answers are free."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._changed = threading.Condition()
        self._left: float = 0

    def opened(self, size_bytes: float) -> None:
        """From now on so many bytes pass, and no more."""
        with self._changed:
            self._left = size_bytes
            self._changed.notify_all()

    def serve(self) -> None:
        """Until it is closed."""
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError):  # one of the two has gone
            with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                threading.Thread(target=_answers, args=(server, client), daemon=True).start()
                while piece := client.recv(PIECE_BYTES):
                    with self._changed:
                        self._changed.wait_for(lambda: self._left > 0)
                        self._left -= len(piece)
                    server.sendall(piece)


def _answers(server: socket.socket, client: socket.socket) -> None:
    """Where the server ends a connection, in whatever way, the client hears of it."""
    with suppress(OSError):
        while piece := server.recv(1 << 16):
            client.sendall(piece)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


@contextmanager
def valve(port: int) -> Iterator[Valve]:
    """While it lasts, connections are carried to that port; nothing passes before it is opened."""
    one = Valve(port)
    threading.Thread(target=one.serve, daemon=True).start()
    try:
        yield one
    finally:
        one.close()
