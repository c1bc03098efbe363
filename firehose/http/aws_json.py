"""The AWS JSON 1.1 protocol: target dispatch, errors, headers, and the constraints of a request's members.

Source: firehose.md sections 1, 1.1 and 1.2. An operation is a table row and a coroutine from body to body;
the constraints of a request are a table of shapes. It knows no operation and no service by name. It must
never let one violation hide another: all go into one answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
import pybase64

from firehose.http.wire import Head, Headers, Reply, Route

Operation = Callable[[bytes], Awaitable[bytes]]  # request body in, compact JSON body out; raises ApiError

CONTENT_TYPE = (b"content-type", b"application/x-amz-json-1.1")
# The largest of AWS's own requests, 10 MiB of Kinesis records in base64, with room for its JSON.
BODY_LIMIT_BYTES = 16 * 1024 * 1024
LOOKED_AT_BYTES = 256  # of a body, for the name of its stream
_STREAM_NAME = re.compile(rb'StreamName"\s*:\s*"([^"]*)"')
SHOWN_CHARACTERS = 256  # of a refused value: the sender decides its length, we decide the answer's


class ApiError(Exception):
    """An answer other than 200, in the words of the API."""

    def __init__(self, code: str, message: str, status: int = 400, headers: Headers = ()) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers


def slow_down(after_seconds: float) -> ApiError:
    """Overload. 503 where AWS's model has 500: the one status that every client and agent retries."""
    wait = b"%d" % max(1, math.ceil(after_seconds))
    return ApiError("ServiceUnavailableException", "Slow down.", 503, ((b"retry-after", wait),))


class AwsJson:
    """Dispatches by `X-Amz-Target`. The table has whole targets for keys, so that services can share it.

    An exception that is no `ApiError` is a bug: the carrier reports it and refuses with a 500.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        request_id: Callable[[], str],
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._operations = operations
        self._request_id = request_id
        self._body_limit_bytes = body_limit_bytes

    def route(self) -> Route:
        return Route(self._begin, self._finish, self._body_limit_bytes, self._refuse, _stream)

    def _begin(self, head: Head) -> Reply | None:
        target = head.header(b"x-amz-target")
        if target in self._operations:
            return None
        what = f"no operation '{target[:SHOWN_CHARACTERS]}'" if target else "no X-Amz-Target header"
        return self._error(ApiError("UnknownOperationException", f"There is {what}."))

    async def _finish(self, head: Head, body: bytes) -> Reply:
        try:
            answer = await self._operations[head.header(b"x-amz-target")](body)
        except ApiError as error:
            return self._error(error)
        return self._reply(200, answer)

    def _refuse(self, status: int, reason: str, after_seconds: float) -> Reply:
        return self._error(_refusal(status, reason, after_seconds))

    def _error(self, error: ApiError) -> Reply:
        body = msgspec.json.encode({"__type": error.code, "message": error.message})
        # Java SDKs read the code from this header, the others from the body.
        return self._reply(error.status, body, (b"x-amzn-errortype", error.code.encode()), *error.headers)

    def _reply(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Reply:
        return Reply(status, body, ((b"x-amzn-requestid", self._request_id().encode()), CONTENT_TYPE, *headers))


def _stream(head: Head, body: bytes) -> bytes:
    """The stream that the request names, by a cheap look where SDKs write it; it need not be right."""
    named = _STREAM_NAME.search(body, 0, LOOKED_AT_BYTES)
    return named[1] if named else b""


def _refusal(status: int, reason: str, after_seconds: float) -> ApiError:
    """What the carrier refused, in this dialect."""
    if status == 503:
        return slow_down(after_seconds)
    codes = {408: "RequestTimeoutException", 413: "RequestEntityTooLargeException"}  # SDKs retry the first
    code = "InternalFailure" if status >= 500 else codes.get(status, "SerializationException")
    return ApiError(code, reason, status)


Kind = Literal["string", "blob", "integer", "timestamp", "boolean", "list", "structure"]
JSON_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str,),
    "integer": (int,),
    "timestamp": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "structure": (dict,),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the service model says of a value. `least` and `most` bound an integer, or else a length."""

    kind: Kind
    least: int | None = None
    most: int | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()
    element: Shape | None = None
    members: Mapping[str, Shape] = field(default_factory=dict)
    required: bool = False


def text(least: int | None = None, most: int | None = None, pattern: str = "") -> Shape:
    return Shape("string", least, most, pattern)


def choice(*names: str) -> Shape:
    return Shape("string", enum=names)


def blob(least: int | None = None, most: int | None = None) -> Shape:
    return Shape("blob", least, most)


def integer(least: int | None = None, most: int | None = None) -> Shape:
    return Shape("integer", least, most)


def timestamp() -> Shape:
    return Shape("timestamp")


def boolean() -> Shape:
    return Shape("boolean")


def list_of(element: Shape, least: int | None = None, most: int | None = None) -> Shape:
    return Shape("list", least, most, element=element)


def structure(**members: Shape) -> Shape:
    return Shape("structure", members=members)


def required(shape: Shape) -> Shape:
    return replace(shape, required=True)


def read(body: bytes, shape: Shape) -> dict[str, Any]:
    """The request's modelled members, blobs decoded; null and absent are the same. Raises `ApiError`.

    The order is AWS's: JSON and its types first, then every violated constraint at once.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"The request body is not valid JSON: {error}") from None
    request: dict[str, Any] = _typed(value, shape, "")
    found = list(_violations(request, shape, ""))
    if found:
        errors = "error" if len(found) == 1 else "errors"
        raise ApiError("ValidationException", f"{len(found)} validation {errors} detected: {'; '.join(found)}")
    return request


def _typed(value: Any, shape: Shape, path: str) -> Any:
    """The value with the types of its shape: members that the model does not know are left out."""
    wrong = not isinstance(value, JSON_TYPES[shape.kind])
    if wrong or (isinstance(value, bool) and shape.kind != "boolean"):  # Python takes true for the number 1
        raise _unreadable(f"The value at '{path}' is not of type {shape.kind}.")
    if shape.kind == "structure":
        return {
            name: _typed(value[name], member, _member(path, name))
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if shape.element is not None:
        if shape.most is not None and len(value) > shape.most:
            return value  # its length is complaint enough: a look at each of millions would hold up everybody
        return [
            None if item is None else _typed(item, shape.element, _item(path, number))
            for number, item in enumerate(value, 1)
        ]
    return _bytes(value, path) if shape.kind == "blob" else value


def _bytes(value: str, path: str) -> bytes:
    try:
        return bytes(pybase64.b64decode(value, validate=True))
    except ValueError:
        raise _unreadable(f"The value at '{path}' is not valid base64.") from None


def _unreadable(message: str) -> ApiError:
    return ApiError("SerializationException", message)


def _violations(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Every violated constraint of the value and of what is in it."""
    if value is None:
        yield _violation(None, path, "Member must not be null")
        return
    broken = list(_broken(value, shape))
    yield from (_violation(value, path, constraint) for constraint in broken)
    if shape.kind == "structure":
        for name, member in shape.members.items():
            if name in value or member.required:
                yield from _violations(value.get(name), member, _member(path, name))
    elif shape.element is not None and not broken:  # of a list too long, the length is complaint enough
        for number, item in enumerate(value, 1):
            yield from _violations(item, shape.element, _item(path, number))


def _broken(value: Any, shape: Shape) -> Iterator[str]:
    """The constraints that the value itself breaks."""
    number, measure = (value, "value") if shape.kind == "integer" else (_length(value), "length")
    if shape.most is not None and number > shape.most:
        yield f"Member must have {measure} less than or equal to {shape.most}"
    if shape.least is not None and number < shape.least:
        yield f"Member must have {measure} greater than or equal to {shape.least}"
    if shape.pattern and not re.fullmatch(shape.pattern, value):
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"
    if shape.enum and value not in shape.enum:
        yield f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list) else 0


def _violation(value: Any, path: str, constraint: str) -> str:
    return f"Value{_shown(value, path)} at '{path}' failed to satisfy constraint: {constraint}"


def _shown(value: Any, path: str) -> str:
    """Only plain top-level values are repeated: what is nested, as AWS does, or holds records, is not."""
    if "." in path or isinstance(value, bytes | list | dict):
        return ""
    return " null" if value is None else f" '{str(value)[:SHOWN_CHARACTERS]}'"


def _member(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _item(path: str, number: int) -> str:
    return f"{path}.{number}.member"
