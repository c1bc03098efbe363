"""A server that gives every request one and the same answer, or none, with TLS or without: in a thread of its own, so
that commands can be run against it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme


class CurtServer:
    """`answer` is what follows `HTTP/1.1 `; without one it takes requests and keeps silent."""

    def __init__(self, answer: str | None = None, body: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._body = body.encode()
        self._tls = tls
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])

    def serve(self) -> None:
        """Until it is closed."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            connection.close()

    def _take(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while connection.recv(1 << 16):
                if self._answer is not None:
                    head = f"HTTP/1.1 {self._answer}\r\nContent-Length: {len(self._body)}\r\n\r\n"
                    connection.sendall(head.encode() + self._body)
        except OSError:
            pass  # the client did not believe us, or the test is over


@contextmanager
def curt(answer: str | None = None, body: str = "", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """While it lasts, the server takes connections on this port."""
    server = CurtServer(answer, body, tls)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server.port
    finally:
        server.close()


def certified(folder: Path, host: str) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for that host name, and the file of the certificate that vouches for it."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(tls)
    file = folder / f"{host}.pem"
    authority.cert_pem.write_to_path(str(file))
    return tls, str(file)
