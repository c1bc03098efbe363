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
from itertools import islice
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
VIOLATIONS = 10  # that one answer lists
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
        return self._error(refusal(status, reason, after_seconds))

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


def refusal(status: int, reason: str, after_seconds: float) -> ApiError:
    """What the carrier refused, in this dialect."""
    if status == 503:
        return slow_down(after_seconds)
    codes = {408: "RequestTimeoutException", 413: "RequestEntityTooLargeException"}  # SDKs retry the first
    code = "InternalFailure" if status >= 500 else codes.get(status, "SerializationException")
    return ApiError(code, reason, status)


Kind = Literal["string", "blob", "integer", "timestamp", "boolean", "list", "map", "structure"]
JSON_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str,),
    "integer": (int,),
    "timestamp": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the service model says of a value. `least` and `most` bound an integer, or else a length.

    `element` is what a list or a map holds, `key` what a map's names are.
    """

    kind: Kind
    least: int | None = None
    most: int | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()
    element: Shape | None = None
    key: Shape | None = None
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


def map_of(key: Shape, element: Shape, least: int | None = None, most: int | None = None) -> Shape:
    return Shape("map", least, most, element=element, key=key)


def structure(**members: Shape) -> Shape:
    return Shape("structure", members=members)


def required(shape: Shape) -> Shape:
    return replace(shape, required=True)


def in_base64(value: str, path: str) -> bytes:
    try:
        return bytes(pybase64.b64decode(value, validate=True))
    except ValueError:
        raise unreadable(f"The value at '{path}' is not valid base64.") from None


@dataclass(frozen=True, slots=True)
class Notation:
    """What a codec writes for each kind of value, and how some of it becomes what operations take: `convert` is given
    the value and its path.
    """

    types: Mapping[Kind, tuple[type, ...]]
    convert: Mapping[Kind, Callable[[Any, str], Any]] = field(default_factory=dict)


IN_JSON = Notation(JSON_TYPES, {"blob": in_base64})


Shown = Callable[[Any, str], str]  # a refused value at its path, as the answer repeats it


def redacted(value: Any, path: str) -> str:
    """As Amazon Data Firehose does: only plain top-level values are repeated, nothing nested, nothing with records."""
    if "." in path or isinstance(value, bytes | list | dict):
        return ""
    return " null" if value is None else f" '{str(value)[:SHOWN_CHARACTERS]}'"


def read(body: bytes, shape: Shape, notation: Notation = IN_JSON, shown: Shown = redacted) -> dict[str, Any]:
    """The request's modelled members, blobs decoded; null and absent are the same. Raises `ApiError`.

    The order is AWS's: JSON and its types first, then every violated constraint at once.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise unreadable(f"The request body is not valid JSON: {error}") from None
    request: dict[str, Any] = typed(value, shape, notation)
    constrain(request, shape, shown)
    return request


def constrain(request: Mapping[str, Any], shape: Shape, shown: Shown = redacted) -> None:
    """Raises `ApiError` where the request, its types right, breaks constraints: the first ten at once."""
    told = islice(_violations(request, shape, ""), VIOLATIONS)
    found = [
        f"Value{shown(value, path)} at '{path}' failed to satisfy constraint: {rule}" for value, path, rule in told
    ]
    if found:
        errors = "error" if len(found) == 1 else "errors"
        raise ApiError("ValidationException", f"{len(found)} validation {errors} detected: {'; '.join(found)}")


def typed(value: Any, shape: Shape, notation: Notation, path: str = "") -> Any:
    """The value with the types of its shape: members that the model does not know are left out."""
    if type(value) not in notation.types[shape.kind]:  # and no subclass: Python takes true for the number 1
        raise unreadable(f"The value at '{path}' is not of type {shape.kind}.")
    if shape.kind == "structure":
        return {
            name: typed(value[name], member, notation, _member(path, name))
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if shape.element is not None:
        if shape.most is not None and len(value) > shape.most:
            return value  # its length is complaint enough: a look at each of millions would hold up everybody
        if shape.kind == "map":
            return {name: _element(item, shape.element, notation, path) for name, item in value.items()}
        return [_element(item, shape.element, notation, _item(path, number)) for number, item in enumerate(value, 1)]
    convert = notation.convert.get(shape.kind)
    return value if convert is None else convert(value, path)


def _element(value: Any, shape: Shape, notation: Notation, path: str) -> Any:
    """Of a list or a map: a null there is a violation, to be told with the others."""
    return None if value is None else typed(value, shape, notation, path)


def unreadable(message: str) -> ApiError:
    return ApiError("SerializationException", message)


Violation = tuple[Any, str, str]  # a value, its path, and the constraint it breaks


def _violations(value: Any, shape: Shape, path: str) -> Iterator[Violation]:
    """Every violated constraint of the value and of what is in it."""
    if value is None:
        yield None, path, "Member must not be null"
        return
    broken = list(_broken(value, shape))
    yield from ((value, path, rule) for rule in broken)
    if shape.kind == "structure":
        for name, member in shape.members.items():
            if name in value or member.required:
                yield from _violations(value.get(name), member, _member(path, name))
    elif shape.key is not None and shape.element is not None and not broken:
        for name, item in value.items():
            yield from _entry_violations(name, item, shape.key, shape.element, path)
    elif shape.element is not None and not broken:  # of a list too long, the length is complaint enough
        for number, item in enumerate(value, 1):
            yield from _violations(item, shape.element, _item(path, number))


def _entry_violations(name: str, item: Any, key: Shape, element: Shape, path: str) -> Iterator[Violation]:
    """AWS names all constraints of a map's keys, or values, where one is broken."""
    for what, value, shape in (("keys", name, key), ("value", item, element)):
        if value is None or any(_broken(value, shape)):
            yield value, f"{path}.{name}", f"Map {what} must satisfy constraint: [{'; '.join(_rules(shape))}]"


def _rules(shape: Shape) -> Iterator[str]:
    """The constraints of a text, as they are told."""
    if shape.most is not None:
        yield f"Member must have length less than or equal to {shape.most}"
    if shape.least is not None:
        yield f"Member must have length greater than or equal to {shape.least}"
    if shape.pattern:
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"


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
    return len(value) if isinstance(value, str | bytes | list | dict) else 0


def _member(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _item(path: str, number: int) -> str:
    return f"{path}.{number}.member"
