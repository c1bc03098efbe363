"""Calls of the data streams' API without a network: requests as botocore writes them, answers as it reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.session import Session

from firehose.http.aws_json import ApiError
from firehose.http.codec import Codec, CodedOperation, JsonCodec
from firehose.http.shared import in_memory

SERVICE = Session().get_service_model("kinesis")
REGION, ACCOUNT = "us-east-1", "123456789012"


def stream_arn(name: str) -> str:
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def operation(name: str) -> OperationModel:
    model: OperationModel = SERVICE.operation_model(name)
    return model


def body(name: str, parameters: Mapping[str, Any]) -> bytes:
    """The request as the SDK sends it; what it would refuse itself included."""
    written = create_serializer("json", include_validation=False)
    said: bytes = written.serialize_to_request(dict(parameters), operation(name))["body"]
    return said


def bare(parameters: Mapping[str, Any]) -> bytes:
    """The request as it stands: what botocore could not write included."""
    return msgspec.json.encode(parameters)


class Calls:
    """A client of some operations. What they refuse is raised as they raise it."""

    def __init__(self, operations: Mapping[str, CodedOperation], codec: Codec | None = None) -> None:
        self._operations = operations
        self._codec = codec or JsonCodec()

    async def __call__(self, name: str, **parameters: Any) -> Any:
        return parsed(name, await self.post(name, body(name, parameters)))

    async def post(self, name: str, request: bytes) -> bytes:
        answer = await self._operations[name](request, self._codec)
        return answer if isinstance(answer, bytes) else b"".join(map(in_memory, answer))

    async def refusal(self, name: str, **parameters: Any) -> ApiError:
        """The error that the call ends with."""
        try:
            answer = await self.post(name, bare(parameters))
        except ApiError as error:
            return error
        raise AssertionError(f"not refused: {answer!r}")


def parsed(name: str, answer: bytes) -> Any:
    response = {"status_code": 200, "headers": {}, "body": answer}
    shape = operation(name).output_shape
    assert shape is not None
    said = create_parser("json").parse(response, shape)
    assert said.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    return said
