"""The data stream's API on the wire: which operation is meant, in which codec, and every refusal in AWS's own form.

Source: data-streams.md sections 1.1 to 1.4. The order of checks is AWS's; the sixth, of signatures, is left out: like
the delivery streams' API this takes requests signed, unsigned and signed by anybody, for there are no accounts here.
What an operation is and does is a table's business.
"""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from firehose.http import aws_json, cbor
from firehose.http.aws_json import BODY_LIMIT_BYTES, LOOKED_AT_BYTES, SHOWN_CHARACTERS, ApiError
from firehose.http.cbor import CborCodec
from firehose.http.codec import Codec, CodedOperation, JsonCodec, StreamingOperation
from firehose.http.shared import Pieces
from firehose.http.wire import Head, Headers, Reply, Route

TARGET = b"Kinesis_20131202."
EVENT_STREAM = (b"content-type", b"application/vnd.amazon.eventstream")
JSON, CBOR = JsonCodec(), CborCodec()
CODECS: Mapping[bytes, Codec] = {codec.content_type: codec for codec in (JSON, CBOR)}
EXPOSED = b"x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date"
PREFLIGHT_SECONDS = b"172800"
XML = (b"content-type", b"text/xml")
DENIED = (
    b"<AccessDeniedException>\n"
    b"  <Message>Unable to determine service/operation name to be authorized</Message>\n"
    b"</AccessDeniedException>\n"
)
NO_PROTOCOL = b"<UnknownOperationException/>\n"
PLAIN_JSON = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
_IN_JSON = re.compile(rb'StreamName"\s*:\s*"([^"]*)"')
_IN_CBOR = re.compile(rb"StreamName(?:[\x61-\x77]|\x78(.))([a-zA-Z0-9_.-]+)", re.DOTALL)


def is_kinesis(method: str, path: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is for this API: by its target, whatever its path. A browser that asks whether it may send one
    does not say the target yet.
    """
    asks = method == "OPTIONS" and path == "/" and b"origin" in headers
    return asks or headers.get(b"x-amz-target", b"").startswith(TARGET)


@dataclass(frozen=True, slots=True)
class KinesisApi:
    """Both tables are keyed by the bare name of an operation. An exception that is no `ApiError` is a bug: the carrier
    reports it and refuses with a 500.
    """

    operations: Mapping[str, CodedOperation]
    streaming: Mapping[str, StreamingOperation]
    request_id: Callable[[], str]
    body_limit_bytes: int = BODY_LIMIT_BYTES

    def route(self, headers: Mapping[bytes, bytes]) -> Route:
        """Where a request with such headers goes: whoever refuses it on the way speaks its codec."""
        refuse = partial(self._refuse, codec_of(headers) or JSON)
        return Route(self._begin, self._finish, self.body_limit_bytes, refuse, _stream, self._is_streamed)

    def _begin(self, head: Head) -> Reply | None:
        if head.method == "OPTIONS" and b"origin" in head.headers:
            return self._reply(head, 200, b"", *_preflight(head))
        if head.method != "POST":
            return self._reply(head, 403, DENIED, XML)
        return None

    async def _finish(self, head: Head, body: bytes) -> Reply:
        codec = codec_of(head.headers)
        if codec is None and body:
            return self._no_codec(head)
        try:
            return await self._answer(head, body, codec or JSON)
        except ApiError as error:
            return self._error(head, error, codec or JSON)

    async def _answer(self, head: Head, body: bytes, codec: Codec) -> Reply:
        name = operation(head)
        if name in self.streaming:
            return await self._stream(head, body, codec, self.streaming[name])
        if name not in self.operations:
            raise _unknown(name, body, codec)
        if not body:
            raise aws_json.unreadable("The request has no body.")
        answer = await self.operations[name](body, codec)
        return self._reply(head, 200, answer, (b"content-type", codec.content_type))

    async def _stream(self, head: Head, body: bytes, codec: Codec, begin: StreamingOperation) -> Reply:
        if not body:
            raise aws_json.unreadable("The request has no body.")
        if codec is not JSON:
            raise ApiError(
                "InternalFailure", "An event stream is asked for in JSON.", 500
            )  # as AWS: its events are JSON
        return Reply(200, b"", (*self._headers(head), EVENT_STREAM), await begin(body))

    def _is_streamed(self, head: Head) -> bool:
        return operation(head) in self.streaming

    def _no_codec(self, head: Head) -> Reply:
        if head.headers.get(b"content-type", b"").partition(b";")[0].strip() == b"application/json":
            return self._reply(head, 404, PLAIN_JSON, (b"content-type", b"application/json"))
        return self._reply(head, 404, NO_PROTOCOL, XML)

    def _refuse(self, codec: Codec, status: int, reason: str, after_seconds: float) -> Reply:
        return self._error(Head("POST", "/", b"", {}), aws_json.refusal(status, reason, after_seconds), codec)

    def _error(self, head: Head, error: ApiError, codec: Codec) -> Reply:
        message = "Message" if error.code == "SerializationException" else "message"
        body = codec.write({"__type": error.code, message: error.message})
        kind = (b"x-amzn-errortype", error.code.encode())
        return self._reply(head, error.status, body, (b"content-type", codec.content_type), kind, *error.headers)

    def _reply(self, head: Head, status: int, body: bytes | Pieces, *headers: tuple[bytes, bytes]) -> Reply:
        headers = (*self._headers(head), *headers)
        if isinstance(body, bytes):
            return Reply(status, body, headers)
        return Reply(status, headers=headers, pieces=body)

    def _headers(self, head: Head) -> Headers:
        request_id = self.request_id()
        extended = b2a_base64(hashlib.sha512(request_id.encode()).digest(), newline=False)
        own = ((b"x-amzn-requestid", request_id.encode()), (b"x-amz-id-2", extended))
        if b"origin" not in head.headers:
            return own
        return (*own, (b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED))


def codec_of(headers: Mapping[bytes, bytes]) -> Codec | None:
    """By Content-Type, its parameters left aside."""
    return CODECS.get(headers.get(b"content-type", b"").partition(b";")[0].strip().lower())


def operation(head: Head) -> str:
    return head.header(b"x-amz-target").removeprefix(TARGET.decode())


def _unknown(name: str, body: bytes, codec: Codec) -> ApiError:
    """AWS looks at the body first, even of an operation that there is not."""
    try:
        if body:
            cbor.loads(body) if codec is CBOR else msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        return aws_json.unreadable(f"The request body cannot be read: {error}")
    return ApiError("UnknownOperationException", f"There is no operation '{name[:SHOWN_CHARACTERS]}'.")


def _preflight(head: Head) -> Headers:
    asked = [
        (b"access-control-allow-headers", head.headers.get(b"access-control-request-headers")),
        (b"access-control-allow-methods", head.headers.get(b"access-control-request-method")),
    ]
    return (*((name, value) for name, value in asked if value), (b"access-control-max-age", PREFLIGHT_SECONDS))


def _stream(head: Head, body: bytes) -> bytes:
    """The stream that the request names, by a cheap look where SDKs write it; it need not be right."""
    for part in (body[:LOOKED_AT_BYTES], body[-LOOKED_AT_BYTES:]):
        if named := _IN_JSON.search(part):
            return named[1]
        if named := _IN_CBOR.search(part):
            length = named[1][0] if named[1] else part[named.start(2) - 1] & 31
            return named[2][:length]
    return b""
