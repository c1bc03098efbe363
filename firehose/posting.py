"""The one door to other people's HTTP servers: the only file of the service that imports httpx.

One request, one answer: it repeats nothing, follows no redirect, keeps no cookies, and looks at no proxy of the
environment. Everything is bounded: connections, the time of a request from its first byte to the last of the answer,
and the answer's size. Whatever goes wrong comes out as `Failed`, whose kind says where, and whose text must never hold
a secret: of a URL it shows no query and no credentials.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from firehose.blocks import Block

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0  # that a connection is kept: shorter than most servers keep theirs
ANSWER_BYTES = 1 << 20
PHRASE_CHARACTERS = 64
REDIRECTS = (301, 302, 303, 307, 308)  # none is followed
TEXT_CHARACTERS = 300  # of a library's words that a reason repeats

Url = Annotated[str, Field(max_length=1000, pattern=r"^https?://[^/?#@\s]+([/?]\S*)?$")]
Kind = Literal[
    "url", "header", "ca_file", "connect", "certificate", "handshake", "tls", "reset", "timeout", "malformed", "phrase",
    "size",
]  # fmt: skip


class PostingOptions(Block):
    """Keys of every block that talks to an HTTP server."""

    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 180
    connections: Annotated[int, Field(ge=1, le=256)] = 16
    verify_tls: bool = True
    ca_file: str | None = None


class Failed(Exception):
    """A request without an answer that could be read."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. Names of headers are in lower case; of a repeated one the values stand side by side."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def text(self) -> str:
        """The beginning of the body, for people."""
        return self.body[:TEXT_CHARACTERS].decode("utf-8", "replace")

    @property
    def after_seconds(self) -> float | None:
        """Retry-After, where it is a number of seconds."""
        said = self.headers.get("retry-after", "").strip()
        return float(said) if said.isascii() and said.isdigit() and len(said) < 10 else None


class Posting:
    """Requests of one destination, over connections of its own. Lives in the event loop."""

    def __init__(self, options: PostingOptions) -> None:
        self._options = options
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Raises `Failed`."""
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                return await self._answer(self._request(method, url, headers, body))
        except TimeoutError:
            raise Failed("timeout", f"no answer within {self._options.timeout_seconds:g} seconds") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Failed(kind(error), innermost(error)) from error

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        try:
            fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        except UnicodeEncodeError as error:
            raise Failed("header", f"a header's name or value cannot be sent: {error.reason}") from None
        connect = min(CONNECT_SECONDS, self._options.timeout_seconds)
        patience = {"timeout": {"connect": connect, "read": None, "write": None, "pool": None}}
        return httpx.Request(method, url, headers=fields, content=body, extensions=patience)

    async def _answer(self, request: httpx.Request) -> Answer:
        answer = await self._connected().handle_async_request(request)
        try:
            phrase = answer.extensions.get("reason_phrase", b"")
            if len(phrase) > PHRASE_CHARACTERS:
                raise Failed("phrase", f"{answer.status_code} with a reason phrase of {len(phrase)} characters")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > ANSWER_BYTES:
                    raise Failed("size", f"{answer.status_code} with an answer larger than {ANSWER_BYTES} bytes")
        finally:
            await answer.aclose()
        return Answer(answer.status_code, dict(answer.headers), bytes(body))

    def _connected(self) -> httpx.AsyncHTTPTransport:
        """Made at the first request: reading certificates takes a moment, and their file may come late."""
        if self._transport is None:
            bounds = httpx.Limits(
                max_connections=self._options.connections,
                max_keepalive_connections=self._options.connections,
                keepalive_expiry=IDLE_SECONDS,
            )
            self._transport = httpx.AsyncHTTPTransport(verify=_verified(self._options), limits=bounds, trust_env=False)
        return self._transport


def _verified(options: PostingOptions) -> ssl.SSLContext | bool:
    if options.ca_file is None:
        return options.verify_tls
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise Failed("ca_file", f"ca_file {options.ca_file}: {error.strerror or error}") from error


def kind(error: Exception) -> Kind:
    """Where it went wrong: what httpx calls alike is told apart by what lies beneath."""
    beneath = list(causes(error))
    connecting = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in beneath):
        return "certificate"
    if any(isinstance(one, ssl.SSLError) for one in beneath):
        return "handshake" if connecting else "tls"
    if connecting:
        return "connect"
    if isinstance(error, httpx.RemoteProtocolError):
        ended = "disconnected" in str(error) or "closed" in str(error)  # it has no class of its own
        return "reset" if ended else "malformed"
    if isinstance(error, httpx.LocalProtocolError):
        return "header"
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return "url"
    return "timeout" if isinstance(error, httpx.TimeoutException) else "reset"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def innermost(error: Exception) -> str:
    """Of a chain of errors, as most of these libraries raise them, the innermost that has something to say."""
    said = [str(one) for one in causes(error) if str(one)]
    return (said[-1] if said else type(error).__name__)[:TEXT_CHARACTERS]


def shown(url: str) -> str:
    """A URL for people, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
