"""A small honest S3 store: what a request asks of it, it does at once, and says so as S3 would.

It knows single objects, multipart uploads and If-None-Match, and keeps objects as files, so that a run of any length
can be counted afterwards. It speaks no HTTP itself: `hostile_s3` does, and lies about it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `operation` is put, begin, part, complete, abort, uploads, or the method in lower case."""

    operation: str
    key: str
    upload: str
    part: int
    only_if_free: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Told:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def error(status: int, code: str, **headers: str) -> Told:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>so it goes</Message></Error>'
    return Told(status, {"Content-Type": "application/xml", **headers}, text.encode())


def operation_of(method: str, target: str) -> str:
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    match method, "uploads" in query, "uploadId" in query:
        case "PUT", _, True:
            return "part"
        case "POST", True, _:
            return "begin"
        case "POST", _, True:
            return "complete"
        case "DELETE", _, True:
            return "abort"
        case "GET", True, _:
            return "uploads"
    return method.lower()


def asked(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Asked:
    """The request as sent: path style, header names in lower case."""
    path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
    key = unquote(path).strip("/").partition("/")[2] or query.get("prefix", [""])[0]
    upload, part = query.get("uploadId", [""])[0], int(query.get("partNumber", ["0"])[0])
    return Asked(operation_of(method, target), key, upload, part, headers.get("if-none-match") == "*", body)


class Shelf:
    """One bucket. `uploads` are begun and neither completed nor aborted; `rewritten` are names given twice."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.rewritten: list[str] = []
        self._folder = folder
        self._begun = 0

    def do(self, one: Asked) -> Told:
        steps: dict[str, Callable[[Asked], Told]] = {
            "put": self._put,
            "begin": self._begin,
            "part": self._part,
            "complete": self._complete,
            "abort": self._abort,
            "uploads": self._list,
            "head": lambda _: Told(200),
        }
        return steps[one.operation](one) if one.operation in steps else error(405, "MethodNotAllowed")

    def forget_part(self, one: Asked) -> None:
        """Loses a part that was taken."""
        if one.upload in self.uploads:
            self.uploads[one.upload][1].pop(one.part, None)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Every object's name and content, one at a time."""
        for path in sorted(self._folder.iterdir()):
            yield unquote(path.name), path.read_bytes()

    def _put(self, one: Asked) -> Told:
        return self._store(one, one.body) or Told(200, {"ETag": _etag(one.body)})

    def _store(self, one: Asked, body: bytes) -> Told | None:
        path = self._folder / one.key.replace("/", "%2F")
        if path.exists():
            if one.only_if_free:
                return error(412, "PreconditionFailed")
            self.rewritten.append(one.key)
        path.write_bytes(body)
        return None

    def _begin(self, one: Asked) -> Told:
        self._begun += 1
        upload = f"upload-{self._begun}"
        self.uploads[upload] = (one.key, {})
        ids = f"<Key>{escape(one.key)}</Key><UploadId>{upload}</UploadId>"
        return _document("InitiateMultipartUploadResult", ids)

    def _part(self, one: Asked) -> Told:
        if one.upload not in self.uploads:
            return error(404, "NoSuchUpload")
        self.uploads[one.upload][1][one.part] = one.body
        return Told(200, {"ETag": _etag(one.body)})

    def _complete(self, one: Asked) -> Told:
        if one.upload not in self.uploads:
            return error(404, "NoSuchUpload")
        _, parts = self.uploads[one.upload]
        wanted = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", one.body)]
        if any(number not in parts for number in wanted):
            return error(400, "InvalidPart")
        body = b"".join(parts[number] for number in wanted)
        if (taken := self._store(one, body)) is not None:
            return taken
        del self.uploads[one.upload]
        return _document("CompleteMultipartUploadResult", f"<Key>{escape(one.key)}</Key><ETag>{_etag(body)}</ETag>")

    def _abort(self, one: Asked) -> Told:
        return error(404, "NoSuchUpload") if self.uploads.pop(one.upload, None) is None else Told(204)

    def _list(self, one: Asked) -> Told:
        mine = [(upload, key) for upload, (key, _) in self.uploads.items() if key.startswith(one.key)]
        entries = (f"<Upload><Key>{escape(key)}</Key><UploadId>{upload}</UploadId></Upload>" for upload, key in mine)
        return _document("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>" + "".join(entries))


def _document(root: str, content: str) -> Told:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{content}</{root}>'
    return Told(200, {"Content-Type": "application/xml"}, text.encode())


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
