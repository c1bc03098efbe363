"""A server on loopback that speaks Lambda's Invoke API: it runs a Python function, or misbehaves as its script says.

Whoever tests reads off it what arrived. Nothing of boto3 is in here: what it says is what AWS documents.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from programs import PATIENCE_SECONDS

PATH = re.compile(r"/2015-03-31/functions/(?P<function>[^/]+)/invocations")
KEYS = {"access_key_id": "test", "secret_access_key": "hush-hush"}
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call that arrived."""

    function: str
    qualifier: str | None
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Event:
        event: Event = json.loads(self.body)
        return event


@dataclass(frozen=True, slots=True)
class Answer:
    """The server answers this without running the function."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection ends without an answer."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset without an answer."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The function runs, and its answer comes only once this is set, or the test is over."""

    until: threading.Event = field(default_factory=threading.Event)


Fault = Answer | HangUp | Reset | Hold


def refusal(status: int, code: str, message: str = "as scripted", **headers: str) -> Answer:
    """How the Invoke API says no."""
    body = json.dumps({"Type": "User", "message": message}).encode()
    return Answer(body, status, {"x-amzn-ErrorType": code, "Content-Type": "application/json", **headers})


def failure(complaint: object, kind: str = "Unhandled") -> Answer:
    """What the API answers when the function itself has failed."""
    return Answer(json.dumps(complaint).encode(), 200, {"X-Amz-Function-Error": kind})


def in_capitals(event: Event) -> object:
    """A transformation as AWS's samples have it."""

    def made(record: Event) -> Event:
        data = b64encode(b64decode(record["data"]).upper()).decode()
        return {"recordId": record["recordId"], "result": "Ok", "data": data}

    return {"records": [made(record) for record in event["records"]]}


# STS lives here too, and lends no role to anybody.
NO_ROLE = Answer(
    b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not yours</Message></Error>"
    b"</ErrorResponse>",
    403,
)


class LambdaServer:
    """Use as a context manager. `script` holds the faults still to come, one a call; then `function` answers."""

    def __init__(self) -> None:
        self.script: list[Fault] = []
        self.dry_runs: list[tuple[str, str | None]] = []
        self.invocations: list[Invocation] = []
        self.forget()
        self.over = threading.Event()

    def forget(self) -> None:
        """As if nobody had called it yet."""
        self.function: Callable[[Event], object] = in_capitals
        self.verdict = Answer(b"", 204)  # on whether a caller may call: runs nothing, and takes nothing off the script
        self.connections = 0
        for told in (self.script, self.dry_runs, self.invocations):
            told.clear()

    def __enter__(self) -> LambdaServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def keys(self, **more: Any) -> dict[str, Any]:
        """A `lambda` block that calls a function here."""
        return {"type": "lambda", "function": "clean", "endpoint_url": self.url, **KEYS, **more}

    def arrived(self, invocation: Invocation) -> Fault | None:
        self.invocations.append(invocation)
        return self.script.pop(0) if self.script else None


def _handler(server: LambdaServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float] = PATIENCE_SECONDS

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True  # the client under test went away: that is its right

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/":
                return self._answer(NO_ROLE)
            url = urlsplit(self.path)
            named = PATH.fullmatch(unquote(url.path))
            assert named, f"{self.path} is no call of a function"
            headers = {name.lower(): value for name, value in self.headers.items()}
            (qualifier,) = parse_qs(url.query).get("Qualifier", [None])
            if headers["x-amz-invocation-type"] == "DryRun":
                server.dry_runs.append((named["function"], qualifier))
                return self._answer(server.verdict)
            invocation = Invocation(named["function"], qualifier, headers, body)
            fault = server.arrived(invocation)
            if isinstance(fault, Answer):
                return self._answer(fault)
            if isinstance(fault, HangUp | Reset):
                return self._leave(fault)
            answer = json.dumps(server.function(invocation.event)).encode()
            if isinstance(fault, Hold):
                while not (fault.until.wait(0.05) or server.over.is_set()):
                    pass
            return self._answer(Answer(answer))

        def _leave(self, fault: HangUp | Reset) -> None:
            if isinstance(fault, Reset):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True

        def _answer(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            headers = {"Content-Length": str(len(answer.body)), "X-Amz-Executed-Version": "$LATEST", **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            # An answer that is shorter than it says ends with its connection.
            self.close_connection = int(headers["Content-Length"]) != len(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler


def running() -> Iterator[LambdaServer]:
    """For fixtures."""
    with LambdaServer() as server:
        yield server
