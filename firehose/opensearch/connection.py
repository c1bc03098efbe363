"""The client library, opensearch-py: the only file that imports it, or urllib3 beneath it.

The library's own API, transport, pool and signer are used as they are. Its connection is not enough by itself: it reads
an answer however large, bounds each wait but never the whole, warns and logs, bodies too, and of an answer that is no
success it keeps neither the headers nor the text. So each of its requests comes out here as one of three: an answer's
bytes, `Answered`, or `Failed`, whose text must never hold a secret.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from functools import partial
from http.client import HTTPException, RemoteDisconnected
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from isal import isal_zlib
from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth, Urllib3HttpConnection
from opensearchpy.serializer import Serializer
from urllib3 import HTTPResponse, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    InvalidChunkLength,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
)

from firehose.aws import Credentials
from firehose.opensearch.request import Answered, Requests
from firehose.posting import CONNECT_SECONDS, IDLE_SECONDS, Answer, Failed, Kind, causes, innermost

PIECE_BYTES = 1 << 18
Client = OpenSearch


def client(
    endpoint: str,
    requests: Requests,
    *,
    answer_bytes: int,
    timeout_seconds: float,
    **more: Any,
) -> Client:
    """A client for one endpoint. What it is asked for raises `Answered`, `Failed`, and what its signer raises."""
    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    host = {
        "host": parts.hostname,
        "port": parts.port or (443 if secure else 80),
        "use_ssl": secure,
        "url_prefix": parts.path,
    }
    return OpenSearch(
        [host],
        connection_class=Connection,
        serializer=AsTheyAre(),
        max_retries=0,
        ssl_show_warn=False,
        requests=requests,
        answer_bytes=answer_bytes,
        timeout=timeout_seconds,
        **more,
    )


def signed(credentials: Credentials, region: str, service: str) -> Callable[..., Mapping[str, str]]:
    """Signature Version 4, as the client's `http_auth`."""
    signer: Callable[..., Mapping[str, str]] = Urllib3AWSV4SignerAuth(credentials, region, service)
    return signer


class AsTheyAre(Serializer):
    """Bulk requests are bytes already; answers are read into types by those who asked."""

    mimetype = "application/json"

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, bytes) else msgspec.json.encode(data)

    def loads(self, s: Any) -> Any:
        return s


class Connection(Urllib3HttpConnection):
    """As the library makes it, with bounds."""

    def __init__(self, *, requests: Requests, answer_bytes: int, timeout: float, **more: Any) -> None:
        self._answer_bytes = answer_bytes
        self._patience = Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        self._kinds = {
            scheme: partial(kind, requests=requests, seconds=timeout)
            for scheme, kind in (("http", Watched), ("https", WatchedTls))
        }
        super().__init__(timeout=timeout, **more)

    def _create_urllib3_pool(self) -> None:
        super()._create_urllib3_pool()
        self.pool.ConnectionCls = self._kinds[self.scheme]

    def perform_request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        ignore: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        path = f"{self.url_prefix}{url}?{urlencode(params)}" if params else self.url_prefix + url
        fields = {**self.headers, **(headers or {}), "accept-encoding": "identity"}
        if self.http_compress and body:
            body = isal_zlib.compress(body, 1, wbits=31)
            fields["content-encoding"] = "gzip"
        if self.http_auth is not None:
            fields |= self.http_auth(method, self.host + path, body)
        answer = self._answer(method, path, fields, body)
        if answer.status != 200:
            raise Answered(answer)
        return answer.status, {}, answer.body  # without a type of content: what it really is shows to whoever reads it

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        unread = {"preload_content": False, "decode_content": False}
        try:
            response = self.pool.urlopen(
                method, path, body, headers, retries=False, redirect=False, timeout=self._patience, **unread
            )
            return self._read(response)
        except (HTTPError, HTTPException, OSError) as error:
            raise Failed(kind(error), innermost(error)) from error
        except ValueError as error:  # whose words repeat the header
            raise Failed("header", "a header's value cannot be sent") from error

    def _read(self, response: HTTPResponse) -> Answer:
        body = bytearray()
        try:
            for piece in response.stream(PIECE_BYTES):
                body += piece
                if len(body) > self._answer_bytes:
                    raise Failed("size", f"{response.status} with an answer larger than {self._answer_bytes} bytes")
        except BaseException:
            response.close()  # with what is left unread, it is no use to another request
            raise
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, bytes(body))


class Watched(HTTPConnection):
    """Tells the request that goes over it. Kept for a moment only: what lies between may forget it without a word."""

    def __init__(self, *args: Any, requests: Requests, seconds: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self._requests = requests
        self._seconds = seconds
        self._used_at = requests.current.at

    @property
    def is_connected(self) -> bool:
        return self._requests.current.at - self._used_at < IDLE_SECONDS and super().is_connected

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self._requests.current.over(made)
        return made

    def request(self, *args: Any, **more: Any) -> None:
        self._used_at = self._requests.current.at
        if self.sock is None:
            self.connect()
        else:
            self._requests.current.over(self.sock)
        self.timeout = self._seconds  # what was for connecting is too short for a large body
        super().request(*args, **more)


class WatchedTls(Watched, HTTPSConnection):
    """The same over TLS."""


def kind(error: BaseException) -> Kind:
    """Where it went wrong: what urllib3 calls alike is told apart by what lies beneath."""
    beneath = list(causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in beneath)

    if has(ssl.SSLCertVerificationError):
        return "certificate"
    if has(LocationParseError):
        return "url"
    if has(NewConnectionError, ConnectTimeoutError):
        return "connect"
    if has(FileNotFoundError, PermissionError, IsADirectoryError):
        return "ca_file"
    if has(ssl.SSLError):
        return "handshake"
    if has(ReadTimeoutError):
        return "timeout"
    if has(RemoteDisconnected, IncompleteRead) or not has(HTTPException, InvalidChunkLength):
        return "reset"
    return "malformed"
