"""An S3 store that does its worst, and the wire by which the real botocore reaches it.

Requests are answered, refused, lost before or behind the store, cut in mid-body, or arrive long after their sender
gave up. What the store holds, it holds for good: an object once stored is told to the witness.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore import exceptions
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.session import Session
from simulation.world import World, running

URL = "http://store"
KEYS = {"endpoint_url": URL, "access_key_id": "key", "secret_access_key": "hush", "addressing_style": "path"}
TIMEOUT_SECONDS = 5.0
NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    code: str = ""
    body: str = ""
    etag: str = ""


@dataclass(slots=True)
class Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One that reached the store. `number` is its place among all."""

    number: int
    operation: str  # put, begin, part, complete, abort, list
    key: str  # bucket and name
    upload: str
    part: int
    body: bytes
    is_conditional: bool

    def __str__(self) -> str:
        return f"s3 #{self.number} {self.operation} {self.key}" + (f" part {self.part}" if self.part else "")


class Store:
    """`moods` are what may become of a request; `condition` is what it makes of If-None-Match."""

    def __init__(self, world: World, step: Callable[[bool], None], stored: Callable[[str, bytes], None]) -> None:
        self.objects: dict[str, bytes] = {}
        self.moods: dict[str, float] = {"answer": 1.0}
        self.condition = "kept"  # or ignored, refused
        self._world = world
        self._step = step
        self._stored = stored
        self._uploads: dict[str, Upload] = {}
        self._requests = 0
        self._begun = 0

    def serve(self, request: Any, **_: Any) -> AWSResponse:
        """What botocore's `before-send` asks: the answer to a request, in the calling thread."""
        asked = self._read(request)
        process = running().process
        process.check()
        mood = self._world.dice.choices(list(self.moods), list(self.moods.values()))[0]
        process.note(f"{asked}: {mood}")
        self._world.pause(self._world.dice.choice((0.002, 0.01, 0.05)))
        self._step(False)
        process.check()
        answer = self._answer(asked, mood)
        self._step(True)
        process.check()
        self._world.pause(self._world.dice.choice((0.002, 0.01, 0.05)))
        process.note(f"s3 #{asked.number} answers {answer.status} {answer.code}")
        return _response(request.url, answer)

    def _answer(self, asked: Request, mood: str) -> Answer:
        match mood:
            case "500":
                return Answer(500, "InternalError")
            case "503":
                return Answer(503, "SlowDown")
            case "403":
                return Answer(403, "AccessDenied")
            case "reset":
                raise exceptions.ConnectionClosedError(endpoint_url=URL)
            case "unreachable":
                raise exceptions.EndpointConnectionError(endpoint_url=URL)
            case "lost":
                self._do(asked)
                raise exceptions.ConnectionClosedError(endpoint_url=URL)
            case "late" | "never":
                if mood == "late":  # perhaps long after the client gave up, and tried again
                    self._world.after(self._world.dice.uniform(0, 8 * TIMEOUT_SECONDS), lambda: self._arrive(asked))
                self._world.pause(TIMEOUT_SECONDS)
                raise exceptions.ReadTimeoutError(endpoint_url=URL)
            case "500 after":
                self._do(asked)
                return Answer(500, "InternalError")
            case "slow":
                self._world.pause(self._world.dice.uniform(0.5, TIMEOUT_SECONDS))
        if mood == "part" and asked.operation == "part":
            return Answer(200, etag=f'"{asked.number}"')
        return self._do(asked)

    def _arrive(self, asked: Request) -> None:
        self._world.note("store", f"{asked} arrives now")
        self._do(asked)

    def _do(self, asked: Request) -> Answer:
        if asked.is_conditional and self.condition == "refused":
            return Answer(501, "NotImplemented")
        taken = asked.is_conditional and self.condition == "kept" and asked.key in self.objects
        upload = self._uploads.get(asked.upload)
        match asked.operation:
            case "put":
                if not taken:
                    self._put(asked.key, asked.body)
            case "begin":
                self._begun += 1
                name = f"upload-{self._begun}"
                self._uploads[name] = Upload(asked.key)
                said = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                return Answer(200, body=said)
            case "list":
                return Answer(200, body=self._listed(asked.key))
            case _ if upload is None or upload.key != asked.key:
                return Answer(404, "NoSuchUpload")
            case "part":
                upload.parts[asked.part] = asked.body
            case "complete":
                return self._complete(asked, upload, taken)
            case "abort":
                del self._uploads[asked.upload]
                return Answer(204)
        return Answer(412, "PreconditionFailed") if taken else Answer(200, etag=f'"{zlib.crc32(asked.body)}"')

    def _complete(self, asked: Request, upload: Upload, taken: bool) -> Answer:
        named = [int(number) for number in NUMBER.findall(asked.body)]
        if any(number not in upload.parts for number in named):
            return Answer(400, "InvalidPart")
        if taken:
            return Answer(412, "PreconditionFailed")
        self._put(asked.key, b"".join(upload.parts[number] for number in named))
        del self._uploads[asked.upload]
        return Answer(200, body="<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>")

    def _listed(self, prefix: str) -> str:
        found = [(name, upload.key) for name, upload in self._uploads.items() if upload.key.startswith(prefix)]
        told = [
            f"<Upload><Key>{key.partition('/')[2]}</Key><UploadId>{name}</UploadId></Upload>" for name, key in found
        ]
        return f"<ListMultipartUploadsResult>{''.join(told)}</ListMultipartUploadsResult>"

    def _put(self, key: str, body: bytes) -> None:
        self.objects[key] = body
        self._stored(key, body)

    def _read(self, request: Any) -> Request:
        self._requests += 1
        url = urlsplit(request.url)
        query = parse_qs(url.query, keep_blank_values=True)
        upload = query.get("uploadId", [""])[0]
        part = int(query.get("partNumber", ["0"])[0])
        body = request.body.read() if hasattr(request.body, "read") else bytes(request.body or b"")
        operation = {
            "PUT": "part" if upload else "put",
            "POST": "complete" if upload else "begin",
            "DELETE": "abort",
            "GET": "list",
        }[request.method]
        key = unquote(url.path[1:]) + "".join(f"/{prefix}" for prefix in query.get("prefix", ()))
        is_conditional = "If-None-Match" in request.headers
        return Request(self._requests, operation, key, upload, part, body, is_conditional)


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


def _response(url: str, answer: Answer) -> AWSResponse:
    body = f"<Error><Code>{answer.code}</Code></Error>" if answer.code else answer.body
    headers: Any = {"etag": answer.etag, "content-type": "application/xml"}
    return AWSResponse(url, answer.status, headers, _Raw(body.encode()))


@cache
def _client() -> Any:
    """A real client whose wire leads to whichever store is in use now. Made once: that costs a fifth of a second."""
    settings = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    session = Session()
    session.set_credentials("key", "hush")
    client: Any = session.create_client("s3", region_name="us-east-1", endpoint_url=URL, config=settings)
    client.close = bool  # which does nothing: the next world uses it again
    return client


class Sessions:
    """Stands in for boto3's and botocore's `Session` while a world runs: every client's wire leads to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, **_: Any) -> Sessions:
        return self

    def client(self, service: str, **_: Any) -> Any:
        assert service == "s3"
        events = _client().meta.events
        events.unregister("before-send.s3", unique_id="world")
        events.register("before-send.s3", self._store.serve, unique_id="world")
        return _client()

    def get_component(self, name: str) -> None: ...

    def register_component(self, name: str, component: object) -> None: ...

    def set_credentials(self, *keys: str | None) -> None: ...
