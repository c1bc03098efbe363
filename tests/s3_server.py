"""An S3 store on loopback that can be told to misbehave: moto behind a proxy that follows a script."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from uuid import uuid4

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer
from programs import PATIENCE_SECONDS
from s3_shelf import operation_of

KEYS = {"access_key_id": "test", "secret_access_key": "hush-hush"}


@dataclass(frozen=True, slots=True)
class Request:
    """What reached the store."""

    operation: str  # as `s3_shelf` names it
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The store answers this instead of doing its work."""

    status: int
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def body(self) -> bytes:
        text = f"<Error><Code>{self.code}</Code><Message>as scripted</Message></Error>"
        return text.encode() if self.code else self.text.encode()


@dataclass(frozen=True, slots=True)
class LoseReply:
    """The store does its work, and the connection ends without an answer."""


@dataclass(frozen=True, slots=True)
class HoldReply:
    """The store does its work, and answers only once the test is over."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset after this much of the request's body."""

    after_bytes: int = 1000


Fault = Answer | LoseReply | HoldReply | Reset


class S3Server:
    """Use as a context manager. `script` holds the faults still to come, each for an operation."""

    def __init__(self) -> None:
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.script: list[tuple[str, Fault]] = []
        self.requests: list[Request] = []
        self.over = threading.Event()

    def __enter__(self) -> S3Server:
        self._moto.start()
        self.moto_address = self._moto.get_host_and_port()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._client = self.client()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._client.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._moto.stop()

    @property
    def url(self) -> str:
        """Where the misbehaving store listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def moto_url(self) -> str:
        """Where the store itself listens, beside S3 for STS."""
        return "http://{}:{}".format(*self.moto_address)

    def new_bucket(self) -> str:
        """An empty bucket, and a clean record of requests."""
        name = f"lake-{uuid4().hex[:12]}"  # moto keeps one world for all servers of a process
        self._client.create_bucket(Bucket=name)
        self.script.clear()
        self.requests.clear()
        return name

    def client(self) -> Any:
        """A client that goes past the script."""
        return boto3.Session("test", "test").client(
            "s3",
            endpoint_url=self.moto_url,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object of the bucket, as stored."""
        listed = self._client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: self.read(bucket, item["Key"])["Body"].read() for item in listed}

    def read(self, bucket: str, name: str) -> Any:
        return self._client.get_object(Bucket=bucket, Key=name)

    def tags(self, bucket: str, name: str) -> dict[str, str]:
        found = self._client.get_object_tagging(Bucket=bucket, Key=name)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def uploads(self, bucket: str) -> list[str]:
        """Multipart uploads that are neither completed nor aborted."""
        found = self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [upload["UploadId"] for upload in found]

    def seen(self) -> list[str]:
        """The operations that arrived, in order."""
        return [request.operation for request in self.requests]

    def fault(self, operation: str) -> Fault | None:
        """The next fault of the script, if it is for this operation; it happens once."""
        for index, (wanted, fault) in enumerate(self.script):
            if wanted == operation:
                del self.script[index]
                return fault
        return None


def _handler(server: S3Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float] = PATIENCE_SECONDS

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True  # the client under test went away: that is its right

        def _serve(self) -> None:
            operation = operation_of(self.command, self.path)
            fault = server.fault(operation)
            if isinstance(fault, Reset):
                return self._reset(fault)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append(Request(operation, self.path, headers, body))
            if isinstance(fault, Answer):
                return self._answer(fault.status, fault.headers, fault.body)
            status, told, content = self._forward(body)
            if isinstance(fault, HoldReply):
                server.over.wait(300)
            if fault is not None:
                self.close_connection = True
                return None
            return self._answer(status, told, content)

        def _reset(self, fault: Reset) -> None:
            self.rfile.read(fault.after_bytes)
            # Closing with bytes unread makes the kernel send a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            moto = http.client.HTTPConnection(*server.moto_address, timeout=300)
            try:
                moto.request(self.command, self.path, body, dict(self.headers.items()))
                answer = moto.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            finally:
                moto.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler


def running() -> Iterator[S3Server]:
    """For fixtures."""
    with S3Server() as server:
        yield server
