"""How requests to other people's HTTP servers say who sends them: the `auth` block of a destination.

Secrets go into headers and nowhere else. An OAuth2 token is asked for when it is first needed, kept until shortly
before it expires, and forgotten when a server refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal, Protocol
from urllib.parse import urlencode

import msgspec
from pybase64 import b64encode
from pydantic import Field, SecretStr

from firehose import aws
from firehose.blocks import Block
from firehose.posting import Posting, Url, shown
from firehose.registry import Site

EARLY_SECONDS = 30.0  # before a token expires, a new one is asked for
LASTING_SECONDS = 300.0  # of a token whose server does not say


class Bearer(Block):
    """`Authorization: Bearer TOKEN`."""

    type: Literal["bearer"]
    token: SecretStr


class Basic(Block):
    type: Literal["basic"]
    username: str
    password: SecretStr


class OAuth2(Block):
    """Client credentials: RFC 6749, section 4.4."""

    type: Literal["oauth2"]
    token_url: Url
    client_id: str
    client_secret: SecretStr
    scope: str = ""


class SigV4(aws.AwsOptions):
    """AWS's Signature Version 4, for a service behind API Gateway, a function's URL and the like."""

    type: Literal["sigv4"]
    service: Annotated[str, Field(min_length=1)]


Auth = Annotated[Bearer | Basic | OAuth2 | SigV4, Field(discriminator="type")]


class NoToken(Exception):
    """The token's server did not give one. `kind` of posting's `Failed` passes as it is."""


class Signature(Protocol):
    """What a request needs beside its own headers."""

    async def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        """Raises `NoToken`, posting's `Failed`, `aws.Failed`."""
        ...

    def refused(self) -> None:
        """A server did not accept it."""
        ...


def signature(options: Bearer | Basic | OAuth2 | SigV4 | None, posting: Posting, site: Site) -> Signature:
    if isinstance(options, OAuth2):
        return _Token(options, posting, site.runtime.monotonic)
    if isinstance(options, SigV4):
        return _Signed(options, site)
    if isinstance(options, Bearer):
        return _Fixed({"Authorization": f"Bearer {options.token.get_secret_value()}"})
    if isinstance(options, Basic):
        pair = f"{options.username}:{options.password.get_secret_value()}"
        return _Fixed({"Authorization": f"Basic {b64encode(pair.encode()).decode()}"})
    return _Fixed({})


class _Fixed:
    def __init__(self, fixed: Mapping[str, str]) -> None:
        self._fixed = fixed

    async def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        return self._fixed

    def refused(self) -> None:
        """There is no other."""


class _Signed:
    def __init__(self, options: SigV4, site: Site) -> None:
        region = options.region or site.region
        self._signer = aws.Signer(site.shared.of(aws.Clients), options, region, options.service)
        self._threads = site.threads

    async def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        return await self._threads.run(partial(self._signer.headers, method, url, headers, body))

    def refused(self) -> None:
        """Credentials are renewed by those who know when."""


class _Given(msgspec.Struct):
    access_token: str
    expires_in: float = LASTING_SECONDS


class _Token:
    """One at a time asks; the others wait for what it gets."""

    def __init__(self, options: OAuth2, posting: Posting, monotonic: Callable[[], float]) -> None:
        self._options = options
        self._posting = posting
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._token = ""
        self._expires_at = 0.0

    async def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        async with self._asking:
            if not self._token or self._monotonic() >= self._expires_at:
                given = await self._ask()
                self._token = given.access_token
                self._expires_at = self._monotonic() + max(given.expires_in - EARLY_SECONDS, given.expires_in / 2)
        return {"Authorization": f"Bearer {self._token}"}

    def refused(self) -> None:
        self._token = ""

    async def _ask(self) -> _Given:
        options = self._options
        form = {"grant_type": "client_credentials", **({"scope": options.scope} if options.scope else {})}
        pair = f"{options.client_id}:{options.client_secret.get_secret_value()}"
        answer = await self._posting.ask(
            "POST",
            options.token_url,
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
                "Authorization": f"Basic {b64encode(pair.encode()).decode()}",
            },
            urlencode(form).encode(),
        )
        if answer.status != 200:
            raise NoToken(f"{shown(options.token_url)} answers {answer.status}; check client_id and client_secret")
        try:
            return msgspec.json.decode(answer.body, type=_Given)
        except ValueError as error:
            raise NoToken(f"{shown(options.token_url)} answers 200 without a token that can be read") from error
