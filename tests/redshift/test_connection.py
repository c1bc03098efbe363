"""The way to a cluster, and everything on it that is none: told, within bounds, and nothing left open."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

import pg_wire
import pytest
import trustme
from pg_wire import Message
from programs import free_port

from firehose.redshift.connection import Connection, Failed, Login, TlsMode

# The driver makes its TLS context as Python no longer likes it.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning")
Serve = Callable[[socket.socket], None]
READY = Message(b"R", struct.pack("!i", 0)), Message(b"Z", b"I")


class Far:
    """Does with each connection what `serve` says, until the test is over."""

    def __init__(self, serve: Serve) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(serve,))
        self._thread.start()

    def _run(self, serve: Serve) -> None:
        while not self.over.is_set():
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            with connected:
                try:
                    serve(connected)
                except (OSError, pg_wire.Gone):
                    pass  # the client went away: that is its right

    def close(self) -> None:
        self.over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def far() -> Iterator[Callable[[Serve], Far]]:
    made: list[Far] = []

    def start(serve: Serve) -> Far:
        made.append(Far(serve))
        return made[-1]

    yield start
    for one in made:
        one.close()


def failure(port: int, host: str = "127.0.0.1", tls: TlsMode = "disable", seconds: float = 20) -> Failed:
    with pytest.raises(Failed) as told:
        Connection(Login(host, port, "dev", "firehose", "hush-hush", tls), seconds)
    assert "hush-hush" not in str(told.value)
    return told.value


def answering(*messages: Message) -> Serve:
    def serve(connected: socket.socket) -> None:
        wire = pg_wire.Wire(connected)
        wire.first()
        wire.send(*messages)

    return serve


def silent(connected: socket.socket) -> None:
    while connected.recv(1000):
        pass


def test_refused() -> None:
    """Nobody listens."""
    told = failure(free_port())
    assert (told.code, "refused" in str(told)) == ("ConnectionFailed", True)


def test_name() -> None:
    """A name that nobody knows."""
    told = failure(5439, "no-such-host.invalid")
    assert (told.code, "name cannot be resolved" in str(told)) == ("ConnectionFailed", True)


def test_silent(far: Callable[[Serve], Far]) -> None:
    """One that takes the connection and never says a word is left after a while."""
    told = failure(far(silent).port, seconds=0.2)
    assert (told.code, str(told)) == ("ConnectionFailed", "does not answer in time")


def test_closed(far: Callable[[Serve], Far]) -> None:
    """One that hangs up."""
    told = failure(far(answering()).port)
    assert told.code == "ConnectionFailed"
    assert "closed" in str(told) or "reset" in str(told)


def test_stranger(far: Callable[[Serve], Far]) -> None:
    """One that speaks another protocol."""

    def serve(connected: socket.socket) -> None:
        connected.recv(1000)
        connected.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    told = failure(far(serve).port)
    assert (told.code, "cannot be read" in str(told)) == ("ConnectionFailed", True)


def test_login_refused(far: Callable[[Serve], Far]) -> None:
    """A password that the cluster does not take."""
    told = failure(far(answering(pg_wire.error("28000", "password authentication failed"))).port)
    assert (told.code, told.state) == ("AuthenticationFailed", "28000")
    assert "password authentication failed" in str(told)


def test_no_tls(far: Callable[[Serve], Far]) -> None:
    """A server that takes no TLS gets no password."""
    heard: list[bytes] = []

    def serve(connected: socket.socket) -> None:
        heard.append(connected.recv(8))
        connected.sendall(b"N")
        heard.append(connected.recv(1000))

    told = failure(far(serve).port, tls="verify-full")
    assert told.code == "SslNotSupported"


def test_garbled_tls(far: Callable[[Serve], Far]) -> None:
    """One that only says that it takes TLS."""

    def serve(connected: socket.socket) -> None:
        connected.recv(8)
        connected.sendall(b"S")
        connected.recv(1000)
        connected.sendall(b"no TLS at all")

    told = failure(far(serve).port, tls="verify-full")
    assert told.code == "SslFailure"


def greeting(names: tuple[str, ...], authority: trustme.CA) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)

    def serve(connected: socket.socket) -> None:
        connected.recv(8)
        connected.sendall(b"S")
        with context.wrap_socket(connected, server_side=True) as wrapped:
            answering(*READY)(wrapped)
            silent(wrapped)

    return serve


def test_certificate_of_a_stranger(far: Callable[[Serve], Far]) -> None:
    """A certificate that nobody known has signed."""
    told = failure(far(greeting(("localhost",), trustme.CA())).port, "localhost", "verify-full")
    assert (told.code, "certificate" in str(told)) == ("SslFailure", True)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """An authority that the system believes."""
    authority = trustme.CA()
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield authority


def test_name_in_the_certificate(far: Callable[[Serve], Far], trusted: trustme.CA) -> None:
    """A certificate for another name is believed only where names do not count."""
    port = far(greeting(("elsewhere.example",), trusted)).port
    assert failure(port, "localhost", "verify-full").code == "SslFailure"
    Connection(Login("localhost", port, "dev", "firehose", "hush-hush", "verify-ca"), 20).close()


def test_tls(far: Callable[[Serve], Far], trusted: trustme.CA) -> None:
    """The right certificate opens the door; closing twice is fine."""
    port = far(greeting(("localhost",), trusted)).port
    connection = Connection(Login("localhost", port, "dev", "firehose", "hush-hush", "verify-full"), 20)
    connection.close()
    connection.close()
