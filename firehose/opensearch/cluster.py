"""A cluster as the destination asks it: through the client library, in threads, and never without end.

Whatever the cluster says comes back; where it says nothing that can be read, `Retry` tells why, with AWS's code and
the way out. The threads are its own, one for each connection: a cluster that is slow or dead must hold up no other
destination. The library is loaded at the first request: only the process that delivers needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pybase64 import b64encode
from pydantic import Field, SecretStr

from firehose import aws
from firehose.authorization import Basic, Bearer, SigV4
from firehose.blocks import MIB, Block
from firehose.contracts import Retry
from firehose.hidden import Hidden
from firehose.opensearch.answers import LOOKED_AT
from firehose.opensearch.request import Answered, Request, Requests
from firehose.posting import Answer, Failed, Kind, PostingOptions, shown
from firehose.registry import Site

if TYPE_CHECKING:
    from firehose.opensearch.connection import Client

ANSWER_BYTES = 32 * MIB  # each refused document brings a reason along
CODES: dict[Kind, str] = {"timeout": "RequestTimeout", "connect": "ConnectionFailed", "reset": "ConnectionReset"}
WAYS_OUT: dict[Kind, str] = {
    "url": "; check the key endpoint",
    "header": "; check auth",
    "ca_file": "; check ca_file",
    "timeout": "; check that the server is well, and the key timeout_seconds",
    "connect": "; check the key endpoint, and that the server runs",
    "certificate": "; check ca_file, and that the certificate is for the host in endpoint",
    "handshake": "; check whether endpoint should begin with http://",
    "malformed": "; check whether endpoint should begin with https://",
    "reset": "; check whether endpoint should begin with https://",
}


class ApiKey(Block):
    """`Authorization: ApiKey KEY`, as Elasticsearch has it: the encoded form, of id and key in one."""

    type: Literal["api_key"]
    api_key: SecretStr


class ClusterOptions(PostingOptions):
    """How a cluster is reached."""

    endpoint: Annotated[str, Field(max_length=1000, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")]
    auth: Annotated[Basic | ApiKey | Bearer | SigV4, Field(discriminator="type")] | None = None
    content_encoding: Literal["none", "gzip"] = "none"

    @property
    def serverless(self) -> bool:
        return isinstance(self.auth, SigV4) and self.auth.service == "aoss"


class Cluster:
    """One endpoint. Lives in the event loop."""

    def __init__(self, options: ClusterOptions, site: Site) -> None:
        self._options = options
        self._site = site
        self._requests = Requests()
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._threads = site.runtime.threads("opensearch", options.connections)
        self.name = shown(options.endpoint)
        self.hidden = Hidden(options)

    async def bulk(self, body: bytes, id: str) -> Answer:
        """Whatever it answers to a bulk request. Raises `Retry`."""
        # The server's own logs and task lists show the id.
        headers = {"content-type": "application/x-ndjson", "x-opaque-id": id}
        return await self.ask(lambda client: client.bulk(body=body, headers=headers, filter_path=LOOKED_AT))

    async def ask(self, call: Callable[[Client], Any]) -> Answer:
        """Whatever it answers to a call of the client's. Raises `Retry`."""
        try:
            said = await self._timed(await self._connected(), call)
        except Answered as told:
            return told.answer
        except TimeoutError:
            raise self._unanswered(Failed("timeout", "it is over")) from None
        except Failed as failed:
            raise self._unanswered(failed) from failed
        except aws.Failed as failed:
            raise Retry(f"{self.name}: {failed}", failed.after_seconds, code="OS.AccessDenied") from failed
        return Answer(200, {}, said if isinstance(said, bytes) else b"")

    async def close(self) -> None:
        await self._site.threads.run(self._threads.close)  # waits for what nobody waits for any more, and fails
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _timed(self, client: Client, call: Callable[[Client], Any]) -> Any:
        """The time runs from where a thread begins: before, it is ours."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as patience:

            def begun() -> None:
                if not request.ended:
                    patience.reschedule(loop.time() + self._options.timeout_seconds)

            request = Request(loop.time(), partial(loop.call_soon_threadsafe, begun))
            try:
                return await self._threads.run(partial(self._made, request, client, call))
            finally:
                request.end()

    def _made(self, request: Request, client: Client, call: Callable[[Client], Any]) -> Any:
        with self._requests.turn(request):
            return call(client)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await self._threads.run(self._new_client)
            return self._client

    def _new_client(self) -> Client:
        from firehose.opensearch.connection import client, signed

        options = self._options
        auth: dict[str, Any] = {"headers": _authorization(options.auth)}
        if isinstance(options.auth, SigV4):
            region = options.auth.region or self._site.region
            credentials = aws.Credentials(self._site.shared.of(aws.Clients), options.auth, region)
            auth = {"http_auth": signed(credentials, region, options.auth.service)}
        return client(
            options.endpoint,
            self._requests,
            answer_bytes=ANSWER_BYTES,
            timeout_seconds=options.timeout_seconds,
            pool_maxsize=options.connections,
            http_compress=options.content_encoding == "gzip",
            verify_certs=options.verify_tls,
            ca_certs=options.ca_file,
            **auth,
        )

    def _unanswered(self, failed: Failed) -> Retry:
        told = {  # of the others, who failed says where
            "timeout": f"no answer within {self._options.timeout_seconds:g} seconds",
            "ca_file": f"ca_file {self._options.ca_file}: {failed}",
        }
        reason = f"{self.name}: {told.get(failed.kind, failed)}{WAYS_OUT.get(failed.kind, '')}"
        return Retry(reason, code=f"OS.{CODES.get(failed.kind, 'ConnectionError')}")


def _authorization(auth: Basic | ApiKey | Bearer | SigV4 | None) -> dict[str, str]:
    """Not by the library's own way, which has no password beyond Latin-1."""
    if isinstance(auth, Basic):
        pair = f"{auth.username}:{auth.password.get_secret_value()}"
        return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    if isinstance(auth, Bearer):
        return {"authorization": f"Bearer {auth.token.get_secret_value()}"}
    return {"authorization": f"ApiKey {auth.api_key.get_secret_value()}"} if isinstance(auth, ApiKey) else {}
