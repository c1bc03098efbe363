"""A server on loopback that speaks Glue's GetTable and GetTableVersion, or misbehaves as its script says.

Whoever tests writes tables and reads off what was asked. Nothing of boto3 is in here: what it says is what AWS
documents. The faults are those of `lambda_server`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, ClassVar

from lambda_server import KEYS, Answer, Fault, HangUp, Hold, Reset
from programs import PATIENCE_SECONDS

Asked = tuple[str, dict[str, Any]]


def answer(said: object) -> Answer:
    return Answer(json.dumps(said).encode(), headers={"Content-Type": "application/x-amz-json-1.1"})


def refusal(status: int, code: str, message: str = "as scripted", **headers: str) -> Answer:
    """How Glue says no."""
    body = json.dumps({"__type": code, "Message": message}).encode()
    return Answer(body, status, {"Content-Type": "application/x-amz-json-1.1", **headers})


def table(columns: Mapping[str, str], **more: Any) -> dict[str, Any]:
    listed = [{"Name": name, "Type": type_, "Comment": "of ours"} for name, type_ in columns.items()]
    partitions = [{"Name": "dt", "Type": "string"}]
    return {"Name": "t", "StorageDescriptor": {"Columns": listed}, "PartitionKeys": partitions, **more}


class GlueServer:
    """Use as a context manager. `versions` are those of the one table there is, db.t, which is the last of them."""

    def __init__(self) -> None:
        self.over = Event()
        self.met = Event()  # a fault of the script is under way, or was
        self.asked: list[Asked] = []
        self.script: list[Fault] = []
        self.versions: list[dict[str, Any]] = []

    def forget(self) -> None:
        """As if nobody had asked yet, and there were no table."""
        self.met.clear()
        for told in (self.asked, self.script, self.versions):
            told.clear()

    def __enter__(self) -> GlueServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def keys(self, **more: Any) -> dict[str, Any]:
        """A `glue` block that names the table here."""
        url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return {"database": "db", "table": "t", "endpoint_url": url, **KEYS, **more}

    def add(self, columns: Mapping[str, str], **more: Any) -> None:
        """The table's next version."""
        self.versions.append(table(columns, **more))

    def told(self, operation: str, of: Mapping[str, Any]) -> Answer:
        """What an honest Glue answers."""
        name, number = of.get("Name", of.get("TableName")), int(of.get("VersionId", len(self.versions) - 1))
        if (of["DatabaseName"], name) != ("db", "t") or not 0 <= number < len(self.versions):
            return refusal(400, "EntityNotFoundException", "Entity Not Found")
        found = self.versions[number]
        if operation == "GetTable":
            return answer({"Table": {**found, "VersionId": str(number)}})
        return answer({"TableVersion": {"Table": found, "VersionId": str(number)}})


def _handler(server: GlueServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float] = PATIENCE_SECONDS

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = str(self.headers["X-Amz-Target"]).removeprefix("AWSGlue.")
            server.asked.append((operation, said))
            fault = server.script.pop(0) if server.script else None
            if fault is not None:
                server.met.set()
            if isinstance(fault, HangUp | Reset):
                self.close_connection = True
                return
            if isinstance(fault, Hold):
                while not (fault.until.wait(0.05) or server.over.is_set()):
                    pass
            self._answer(fault if isinstance(fault, Answer) else server.told(operation, said))

        def _answer(self, told: Answer) -> None:
            try:
                self.send_response_only(told.status)
                for name, value in {"Content-Length": str(len(told.body)), **told.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told.body)
            except ConnectionError:
                self.close_connection = True  # the client under test went away: that is its right

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler


def running() -> Iterator[GlueServer]:
    """For fixtures."""
    with GlueServer() as server:
        yield server
