"""Any HTTP endpoint: by Amazon Data Firehose's own delivery protocol, or with plain JSON or NDJSON bodies.

The protocol is firehose.md section 12, to the letter: what an endpoint answers beside it counts as a failure, and every
failure has AWS's code. A batch goes as one request or several, one after the other, each under an id that is the same
for every attempt (see `parcels`). It must never tell a secret, follow a redirect, or take anything for a success that
is not one. Where AWS gives a batch up after 413 without a trace, its records are dead letters here: nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import pyarrow.compute as pc
from isal import isal_zlib
from pydantic import Field, SecretStr, field_validator, model_validator

from firehose import aws, observe
from firehose.authorization import Auth, NoToken, signature
from firehose.contracts import Memo, Retry
from firehose.endpoint_bodies import BODIES
from firehose.hidden import Hidden
from firehose.model import Batch, Receipt, Rejections
from firehose.parcels import Arrived, Bounds, Parcel, parcels
from firehose.posting import REDIRECTS, Answer, Failed, Kind, Posting, PostingOptions, Url, shown
from firehose.registry import Site
from firehose.stream_config import DestinationBlock

BODY_BYTES = 16 << 20  # before compression, the envelope aside; AWS goes to 64 MiB: each delivery under way holds one
BODY_RECORDS = 10_000
AGENT = "Amazon Kinesis Data Firehose Agent/1.0"  # receivers look for it
TOO_LARGE = 413
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$"
OURS = {"content-length", "content-type", "content-encoding", "host", "transfer-encoding", "connection", "user-agent"}
CODES: Mapping[Kind, str] = {
    "url": "MakeRequestFailure.IllegalUriException",
    "header": "MakeRequestFailure.IllegalCharacterInHeaderValue",
    "ca_file": "SSLHandshakeCertificatePathFailure",
    "connect": "ConnectionFailed",
    "certificate": "SSLHandshakeCertificatePathValidationFailure",
    "handshake": "SSLHandshakeFailure",
    "tls": "SSLFailure",
    "reset": "ConnectionReset",
    "timeout": "RequestTimeout",
    "malformed": "IllegalResponseFailure",
    "phrase": "ResponseReasonPhraseExceededLimit",
    "size": "ResponseTooLarge",
}
WAYS_OUT: Mapping[Kind, str] = {
    "timeout": "; check that the endpoint is well, and the key timeout_seconds",
    "connect": "; check the key url, and that the endpoint runs",
    "certificate": "; check ca_file, and that the certificate is for the host in url",
    "handshake": "; check whether url should begin with http://",
    "header": "; check access_key, headers and auth",
}
STATUS_WAYS_OUT = {
    **dict.fromkeys(REDIRECTS, "; check the key url: redirects are not followed"),
    401: "; check access_key, or auth",
    403: "; check access_key, or auth",
    404: "; check the path in url",
    410: "; check the path in url",
}


class HttpOptions(DestinationBlock, PostingOptions):
    """`type: http`."""

    LETTERS: ClassVar[bool] = False
    RETRY_SECONDS: ClassVar[float | None] = 300

    type: Literal["http"] = "http"
    url: Annotated[Url, Field(repr=False)]  # its query may hold a key
    body: Literal["firehose", "json", "ndjson"] = "firehose"
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    access_key: Annotated[SecretStr, Field(max_length=4096)] | None = None
    attributes: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=256)],
            Annotated[str, Field(max_length=1024)],
        ],
        Field(max_length=50),
    ] = {}
    headers: dict[Annotated[str, Field(pattern=HEADER_NAME)], SecretStr] = {}
    auth: Auth | None = None
    content_encoding: Literal["none", "gzip"] = "none"

    @field_validator("access_key", "headers")
    @classmethod
    def _sendable(cls, given: SecretStr | dict[str, SecretStr] | None) -> object:
        for one in given.values() if isinstance(given, dict) else [given]:
            text = one.get_secret_value() if one is not None else ""
            if not (text.isascii() and text.isprintable()):
                raise ValueError("goes into a header and may hold printable ASCII only")
        return given

    @model_validator(mode="after")
    def _of_the_protocol(self) -> HttpOptions:
        if self.body == "firehose" and self.method != "POST":
            raise ValueError("method is for body json and ndjson: the delivery protocol has POST")
        if self.body != "firehose" and (self.access_key is not None or self.attributes):
            raise ValueError("access_key and attributes belong to body firehose; use headers or auth")
        wrong = [name for name in self.headers if name.lower() in OURS or name.lower().startswith("x-amz-firehose-")]
        if wrong:
            raise ValueError(f"the header {wrong[0]} is set by the destination; leave it out")
        return self

    def place(self) -> tuple[str, ...]:
        return (self.type, shown(self.url))


@dataclass(slots=True)
class Attempt:
    """What one delivery of a batch has come to so far."""

    arrived: Arrived
    refused: Rejections = field(default_factory=Rejections)
    ids: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    waited_seconds: float = 0.0


class Http:
    """Delivers to an endpoint."""

    Options: ClassVar[type[DestinationBlock]] = HttpOptions
    error_type: ClassVar[str] = "http-endpoint-failed"

    def __init__(self, options: HttpOptions, site: Site) -> None:
        self._options = options
        self._site = site
        self._threads = site.threads
        self._posting = Posting(options)
        self._signature = signature(options.auth, self._posting, site)
        self._body = BODIES[options.body]
        self._bounds = Bounds(BODY_RECORDS, BODY_BYTES, self._body.sizes)
        self._fixed = _fixed_headers(options, site)
        self._hidden = Hidden(options)

    async def check(self) -> None:
        """Asks what the endpoint can do: AWS's protocol has no probe, and whatever carried a record would store it.

        Servers that know the path answer OPTIONS, be it by 405; what they answer to a wrong path or key shows.
        """
        answer = await self._asked("OPTIONS", self._fixed, b"")
        if 300 <= answer.status < 400 or answer.status >= 500 or answer.status in STATUS_WAYS_OUT:
            raise self._failure(answer, f"answers {answer.status} to OPTIONS")

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        attempt = Attempt(Arrived(memo, batch))
        sending = parcels(batch, self._bounds)
        try:
            while (parcel := await self._threads.run(partial(next, sending, None))) is not None:
                await self._one(parcel, attempt)
        except Retry as failure:
            done = attempt.arrived.done_rows()
            raise Retry(failure.reason, failure.after_seconds, done, failure.code, attempt.waited_seconds) from failure
        return Receipt(tuple(attempt.ids), attempt.sent_bytes, attempt.refused)

    async def _one(self, whole: Parcel, attempt: Attempt) -> None:
        """One request, unless it has arrived before. Raises `Retry`."""
        arrived = attempt.arrived
        parcel, wrong = await self._threads.run(partial(self._sorted, whole))
        attempt.refused += wrong
        arrived.leave(wrong.table)
        if arrived.has(parcel) or not parcel.rows.num_rows:
            arrived.add(parcel)
            return
        await self._threads.run(arrived.note)
        body = await self._threads.run(partial(self._encoded, parcel))
        began = self._site.runtime.monotonic()
        try:
            answer = await self._sent(parcel, body)
        except Retry:
            arrived.leave(parcel.rows)
            await self._threads.run(arrived.note)
            raise
        finally:
            attempt.waited_seconds += self._site.runtime.monotonic() - began
        if answer.status == TOO_LARGE:
            attempt.refused += self._too_large(parcel, answer)
            arrived.leave(parcel.rows)
        else:
            arrived.add(parcel)
            attempt.ids.append(parcel.id)
            attempt.sent_bytes += len(body)

    async def close(self) -> None:
        await self._posting.close()

    def _sorted(self, parcel: Parcel) -> tuple[Parcel, Rejections]:
        """The rows that can be sent, and those that never will be."""
        wrong, code, message = self._body.wrong(parcel.rows)
        if not pc.any(wrong).as_py():
            return parcel, Rejections()
        bad = Rejections.of(parcel.rows.filter(wrong), self.error_type, f"HttpEndpoint.{code}", message)
        return replace(parcel, rows=parcel.rows.filter(pc.invert(wrong))), bad

    def _encoded(self, parcel: Parcel) -> bytes:
        body: bytes = self._body.encode(parcel, self._site.runtime.now_ms())
        if self._options.content_encoding == "gzip":
            body = isal_zlib.compress(body, 1, wbits=31)
        return body

    async def _sent(self, parcel: Parcel, body: bytes) -> Answer:
        """The answer, where the request was taken or is too large for good. Raises `Retry`."""
        names = _id_headers(self._options, parcel.id)
        answer = await self._asked(self._options.method, {**self._fixed, **names}, body)
        if answer.status == TOO_LARGE:
            return answer
        if not 200 <= answer.status < 300 and not 400 <= answer.status < 600:
            raise self._failure(
                answer, f"answers {answer.status}, which is no answer to a delivery", "InvalidStatusCode"
            )
        trouble = self._body.accepted(answer, parcel.id)
        if trouble:
            code = "InvalidResponseFromDestination" if answer.status == 200 else "DestinationException"
            raise self._failure(answer, trouble, code)
        return answer

    async def _asked(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Whatever the endpoint answers. Raises `Retry`."""
        url = self._options.url
        try:
            signed = await self._signature.headers(method, url, headers, body)
            answer = await self._posting.ask(method, url, {**headers, **signed}, body)
        except Failed as failed:
            way_out = WAYS_OUT.get(failed.kind, "")
            reason = f"{shown(url)}: {failed}{way_out}"
            raise Retry(reason, code=f"HttpEndpoint.{CODES[failed.kind]}") from failed
        except NoToken as failed:
            raise Retry(str(failed), code="HttpEndpoint.ConnectionFailed") from failed
        except aws.Failed as failed:
            raise Retry(
                f"{shown(url)}: {failed}", failed.after_seconds, code="HttpEndpoint.ConnectionFailed"
            ) from failed
        if answer.status == 401:
            self._signature.refused()
        return answer

    def _failure(self, answer: Answer, trouble: str, code: str = "DestinationException") -> Retry:
        way_out = STATUS_WAYS_OUT.get(answer.status, "")
        said = f" Received the following response from the endpoint destination. {answer.text()}" if answer.body else ""
        reason = self._hidden.out_of(f"{shown(self._options.url)}: {trouble}{way_out}.{said}")
        return Retry(reason, answer.after_seconds, code=f"HttpEndpoint.{code}")

    def _too_large(self, parcel: Parcel, answer: Answer) -> Rejections:
        """AWS drops them without a trace; here they are letters, and the log says so loudly."""
        reason = self._failure(answer, "answers 413, which is for good").reason
        observe.log.error(
            "delivery.too_large", segment=str(parcel.segment), records=parcel.rows.num_rows, reason=reason
        )
        return Rejections.of(parcel.rows, self.error_type, "HttpEndpoint.DestinationException", reason)


def _fixed_headers(options: HttpOptions, site: Site) -> dict[str, str]:
    headers = {
        "User-Agent": AGENT,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": BODIES[options.body].content_type,
    }
    if options.content_encoding == "gzip":
        headers["Content-Encoding"] = "gzip"
    if options.body == "firehose":
        headers["X-Amz-Firehose-Protocol-Version"] = "1.0"
        headers["X-Amz-Firehose-Source-Arn"] = site.stream_arn
        if options.access_key is not None:
            headers["X-Amz-Firehose-Access-Key"] = options.access_key.get_secret_value()
        if options.attributes:
            attributes = json.dumps({"commonAttributes": options.attributes}, separators=(",", ":"))
            headers["X-Amz-Firehose-Common-Attributes"] = attributes
    return headers | {name: value.get_secret_value() for name, value in options.headers.items()}


def _id_headers(options: HttpOptions, id: str) -> dict[str, str]:
    return {"X-Amz-Firehose-Request-Id" if options.body == "firehose" else "Idempotency-Key": id}
