"""Redshift, as far as a loader sees it: a proxy in front of a real PostgreSQL.

It drops what only Redshift knows of a start-up message, and answers `COPY ... FROM 's3://...' MANIFEST` by reading the
manifest and what it names from an S3 server, and loading that into the real table, in the client's own transaction.
So types, constraints, locks, rollbacks and errors are PostgreSQL's own. What it cannot read itself it complains of in
Redshift's words. `script` holds faults, one after the other, each for the next statement that its pattern finds.
"""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pg_wire
from pg_wire import Gone, Message, Wire
from postgres import OWNER, OWNER_PASSWORD
from redshift_copy import Bucket, Copy, CopyFailed

KNOWN = {"user", "database", "application_name", "options", "replication", "client_encoding"}
LOGIN = "login"  # what a fault for the start of a session is for


@dataclass(frozen=True, slots=True)
class Say:
    """The server refuses the statement, and the transaction with it."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends before the statement is run."""


@dataclass(frozen=True, slots=True)
class LoseReply:
    """The statement is run, and the connection ends without an answer."""


@dataclass(slots=True)
class Hold:
    """The statement is run and answered only once this is set, whoever still waits for it by then."""

    until: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that no server would send."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing happens: for a script that is to wait for this statement."""


Fault = Pass | Say | Cut | LoseReply | Hold | Garbage


def login(proxy: RedshiftProxy, database: str) -> dict[str, Any]:
    """The keys of a block that lead there."""
    said = {"host": "127.0.0.1", "port": proxy.port, "database": database, "sslmode": "disable"}
    return {**said, "user": OWNER, "password": OWNER_PASSWORD}


class RedshiftProxy:
    """Use as a context manager."""

    def __init__(self, postgres_port: int, bucket: Bucket, tls: ssl.SSLContext | None = None) -> None:
        self.postgres_port = postgres_port
        self.bucket = bucket
        self.tls = tls
        self.script: list[tuple[str, Fault]] = []
        self.statements: list[str] = []  # that were to be run, in order
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> RedshiftProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def copies(self) -> list[str]:
        return [text for text in self.statements if text.upper().startswith("COPY")]

    def fault(self, statement: str) -> Fault | None:
        """The script's next fault, if it is for this statement; it happens once."""
        if self.script and re.match(self.script[0][0], statement, re.IGNORECASE):
            return self.script.pop(0)[1]
        return None


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(proxy: RedshiftProxy) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", proxy.postgres_port)) as backend:
                session = Session(proxy, Wire(self.request), Wire(backend))
                try:
                    session.run()
                except Gone:
                    pass  # one of them went away: that is its right
                finally:
                    session.front.socket.close()

    return Handler


class Session:
    """One client and its backend. The driver asks, then waits: so one thread serves both."""

    def __init__(self, proxy: RedshiftProxy, front: Wire, back: Wire) -> None:
        self.front = front
        self._proxy = proxy
        self._back = back
        self._state = b"I"
        self._texts: dict[str, str] = {}

    def run(self) -> None:
        self._log_in()
        while True:
            group = list(self.front.until(b"S", b"X"))
            if group[-1].kind == b"X":
                return
            self._serve(group)

    def _log_in(self) -> None:
        body = self.front.first()
        while struct.unpack("!i", body[:4])[0] in (pg_wire.SSL_REQUEST, pg_wire.GSS_REQUEST):
            wrapped = self._proxy.tls is not None and struct.unpack("!i", body[:4])[0] == pg_wire.SSL_REQUEST
            self.front.raw(b"S" if wrapped else b"N")
            if self._proxy.tls is not None and wrapped:
                try:
                    self.front.socket = self._proxy.tls.wrap_socket(self.front.socket, server_side=True)
                except OSError as error:
                    raise Gone from error
            body = self.front.first()
        if not self._pass(LOGIN):
            return
        said = pg_wire.strings(body[4:], body.count(b"\0"))
        pairs = zip(said[::2], said[1::2], strict=False)
        kept = "".join(f"{name}\0{value}\0" for name, value in pairs if name in KNOWN)
        packet = body[:4] + kept.encode() + b"\0"
        self._back.raw(struct.pack("!i", len(packet) + 4) + packet)
        for message in self._back.until(b"Z", b"E"):
            self.front.send(pg_wire.mapped(message, _older) if message.kind == b"S" else message)
            if message.kind == b"R" and struct.unpack("!i", message.body[:4])[0] in (3, 5):
                self._back.send(self.front.message())
            if message.kind == b"Z":
                self._state = message.body
            if message.kind == b"E":
                self.front.linger()
                raise Gone

    def _serve(self, group: list[Message]) -> None:
        """One round trip: messages up to Sync."""
        for message in group:
            if message.kind == b"P":
                name, text = pg_wire.strings(message.body, 2)
                self._texts[name] = text
        text = self._texts[_statement(group)] if any(message.kind == b"E" for message in group) else ""
        if text:
            self._proxy.statements.append(text)
            if not self._pass(text):
                return
        if any(_is_copy(self._texts.get(name, "")) for name in _named(group)):
            answers = list(self._copied(group, text))
        else:
            self._back.send(*group)
            answers = list(self._back.until(b"Z"))
            self._state = answers[-1].body
        if self._lost:
            raise Gone
        self.front.send(*answers)

    _lost = False

    def _pass(self, statement: str) -> bool:
        """Follows the script. Whether the statement is to be run."""
        fault = self._proxy.fault(statement)
        match fault:
            case Cut():
                raise Gone
            case Garbage(data):
                self.front.raw(data)
                raise Gone
            case Say(state, text):
                self._abort()
                more = () if statement == LOGIN else (Message(b"Z", self._state),)
                self.front.send(pg_wire.error(state, text), *more)
                if statement == LOGIN:
                    self.front.linger()
                    raise Gone
                return False
            case LoseReply():
                self._lost = True
            case Hold():
                fault.begun.set()
                _wait(fault.until, self._proxy.over)
        return True

    def _abort(self) -> None:
        """The backend's transaction fails, as it would by a statement's own error."""
        if self._state == b"T":
            self._asked(pg_wire.query("DO $$ BEGIN RAISE EXCEPTION 'as told'; END $$"))

    def _copied(self, group: list[Message], text: str) -> Iterator[Message]:
        """A round trip for a COPY that PostgreSQL would not understand."""
        for message in group:
            match message.kind:
                case b"P":
                    yield Message(b"1")
                case b"D":
                    yield from (Message(b"t", b"\0\0"), Message(b"n"))
                case b"B":
                    yield Message(b"2")
                case b"C":
                    yield Message(b"3")
                case b"E":
                    yield from self._load(text)
        yield Message(b"Z", self._state)

    def _load(self, text: str) -> Iterator[Message]:
        if self._state == b"E":
            yield pg_wire.error("25P02", "current transaction is aborted, commands ignored until end of transaction")
            return
        try:
            copy = Copy.parsed(text)
            count = 0
            for statement, data in copy.statements(self._proxy.bucket):
                answers = self._asked(pg_wire.query(statement), data)
                failures = [message for message in answers if message.kind == b"E"]
                if failures:
                    yield failures[0]
                    return
                count += sum(int(one.body.split()[-1][:-1]) for one in answers if one.kind == b"C")
        except CopyFailed as failed:
            self._abort()
            yield pg_wire.error(failed.state, str(failed))
            return
        yield pg_wire.notice(f"Load into table '{copy.table}' completed, {count} record(s) loaded successfully.")
        yield Message(b"C", b"COPY\0")

    def _asked(self, question: Message, data: bytes = b"") -> list[Message]:
        """The backend's answers to a question of our own; `data` is what it copies in where it asks for any."""
        self._back.send(question)
        answers = []
        for message in self._back.until(b"Z"):
            answers.append(message)
            if message.kind == b"G":
                pieces = (data[start : start + 65536] for start in range(0, len(data), 65536))
                self._back.send(*(Message(b"d", piece) for piece in pieces), Message(b"c"))
        self._state = answers[-1].body
        return answers


def _wait(until: threading.Event, over: threading.Event) -> None:
    while not (until.wait(0.02) or over.is_set()):
        pass


def _older(name: str, value: str) -> str:
    """What Redshift says that it is; the driver stumbles over PostgreSQL's own words."""
    return "8.0.2" if name == "server_version" else value


def _is_copy(text: str) -> bool:
    return re.match(r"\s*COPY\s.*\sFROM\s+'s3://", text, re.IGNORECASE | re.DOTALL) is not None


def _statement(group: list[Message]) -> str:
    """The name of the statement that is run."""
    return next(pg_wire.strings(message.body, 2)[1] for message in group if message.kind == b"B")


def _named(group: list[Message]) -> Iterator[str]:
    """The names of all statements that a round trip is about."""
    for message in group:
        match message.kind:
            case b"P":
                yield pg_wire.strings(message.body, 1)[0]
            case b"B":
                yield pg_wire.strings(message.body, 2)[1]
            case b"D" | b"C":
                yield pg_wire.strings(message.body[1:], 1)[0]
