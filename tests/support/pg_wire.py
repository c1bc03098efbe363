"""PostgreSQL's messages, as far as a proxy has to understand them: protocol 3.0."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


@dataclass(frozen=True, slots=True)
class Message:
    kind: bytes
    body: bytes = b""

    def encode(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body


class Gone(Exception):
    """The other side has closed the connection."""


class Wire:
    """One side of a connection."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def exactly(self, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            try:
                chunk = self.socket.recv(size - len(read))
            except OSError as error:
                raise Gone from error
            if not chunk:
                raise Gone
            read += chunk
        return bytes(read)

    def message(self) -> Message:
        kind = self.exactly(1)
        return Message(kind, self.exactly(struct.unpack("!i", self.exactly(4))[0] - 4))

    def first(self) -> bytes:
        """The body of the first message, which has no kind."""
        return self.exactly(struct.unpack("!i", self.exactly(4))[0] - 4)

    def until(self, *kinds: bytes) -> Iterator[Message]:
        """Messages, the last of them of one of these kinds."""
        while True:
            message = self.message()
            yield message
            if message.kind in kinds:
                return

    def linger(self) -> None:
        """Until the other side has closed: what it has said and nobody read would make the kernel reset, and so take
        back the last word.
        """
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(1000):
                pass
        except OSError as error:
            raise Gone from error

    def send(self, *messages: Message) -> None:
        self.raw(b"".join(message.encode() for message in messages))

    def raw(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone from error


def query(text: str) -> Message:
    return Message(b"Q", text.encode() + b"\0")


def error(state: str, text: str) -> Message:
    return Message(b"E", b"SERROR\0C" + state.encode() + b"\0M" + text.encode() + b"\0\0")


def notice(text: str) -> Message:
    return Message(b"N", b"SINFO\0C00000\0M" + text.encode() + b"\0\0")


def strings(body: bytes, count: int) -> list[str]:
    """The first few texts, each of which ends with a NUL; what follows may be anything."""
    return [part.decode() for part in body.split(b"\0", count)[:count]]


def mapped(message: Message, change: Callable[[str, str], str]) -> Message:
    """A ParameterStatus with another value."""
    name, value = strings(message.body, 2)
    return Message(message.kind, f"{name}\0{change(name, value)}\0".encode())
