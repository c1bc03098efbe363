"""A small server that takes bulk requests as OpenSearch does, knows documents by their ids, and misbehaves as told."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from endpoint import Act, Endpoint, Exchange

Verdict = tuple[int, str] | None  # a status and a reason; None: the document is taken


def taken(document: Any) -> Verdict:
    return None


@dataclass
class SmallOpenSearch(Endpoint):
    """`script` is for the bulk requests to come, `judge` for each document of those that are taken."""

    documents: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)  # the request's id, the source
    actions: list[dict[str, Any]] = field(default_factory=list)
    judge: Callable[[Any], Verdict] = taken
    limit_bytes: int = 1 << 30
    indices: set[str] = field(default_factory=set)
    status: str = "200 OK"  # of everything but bulk requests
    auto_create: str | list[str] = "true"
    templates: list[dict[str, Any]] = field(default_factory=list)
    may_write: bool = True
    forbidden: tuple[str, ...] = ()  # paths that the login may not ask
    said: bytes | None = None  # to everything but bulk requests that bring documents

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/os"

    async def answer(self, at: Exchange) -> None:
        if at.asked.method == "POST" and b'{"delete"' not in at.asked.body[:10]:
            self.asked.append(at.asked)
            await (self.script.pop(0) if self.script else take)(at)
        else:
            self.probed.append(at.asked)
            await self._probe(at)

    async def _probe(self, at: Exchange) -> None:
        path = at.asked.path.removeprefix("/os").partition("?")[0]
        if at.asked.method == "HEAD" and path[1:] not in self.indices:
            await at.say("404 Not Found")
        elif at.asked.method == "HEAD":
            await at.say(self.status)
        elif path in self.forbidden:
            await at.say("403 Forbidden")
        else:
            said = json.dumps(self._said(path)).encode() if self.said is None else self.said
            await at.say(self.status, said)

    def _said(self, path: str) -> Any:
        if path == "/_bulk":
            error = {"type": "security_exception", "reason": "no permissions for [indices:data/write/delete]"}
            item = {"status": 404} if self.may_write else {"status": 403, "error": error}
            return {"errors": not self.may_write, "items": [{"delete": item}]}
        if path == "/_index_template":
            return {"index_templates": [{"index_template": one} for one in self.templates]}
        return {"persistent": {}, "defaults": {"action": {"auto_create_index": self.auto_create}}}

    def sources(self) -> list[Any]:
        """All documents, in the order of their ids."""
        return [json.loads(source) for _, (_, source) in sorted(self.documents.items(), key=lambda one: one[0][1])]

    def by_request(self) -> dict[str, list[bytes]]:
        """The documents' sources, in the order of their ids, by the id of the request that brought them."""
        found = defaultdict[str, list[bytes]](list)
        for (_, _), (request, source) in sorted(self.documents.items(), key=lambda one: one[0][1]):
            found[request].append(source)
        return found

    def store(self, at: Exchange) -> list[dict[str, Any]]:
        """What becomes of the request's documents, one by one."""
        packed = at.asked.headers.get("content-encoding") == "gzip"
        *lines, last = (gzip.decompress(at.asked.body) if packed else at.asked.body).split(b"\n")
        assert last == b"", "a bulk request ends with a newline"
        assert len(lines) % 2 == 0, "each action has its document"
        return [self._one(at, json.loads(lines[n]), lines[n + 1]) for n in range(0, len(lines), 2)]

    def _one(self, at: Exchange, action: dict[str, Any], source: bytes) -> dict[str, Any]:
        ((operation, names),) = action.items()
        self.actions.append(action)
        verdict = self.judge(json.loads(source))
        key = (names["_index"], names.get("_id", f"made-{len(self.documents):09d}"))
        if operation == "create" and key in self.documents:
            verdict = (409, "version conflict, document already exists")
        if verdict is None:
            self.documents[key] = (at.asked.headers.get("x-opaque-id", ""), source)
            return {operation: {"status": 201}}
        return {operation: {"status": verdict[0], "error": {"type": "some_exception", "reason": verdict[1]}}}


def _of(at: Exchange) -> SmallOpenSearch:
    assert isinstance(at.endpoint, SmallOpenSearch)
    return at.endpoint


async def _tell(at: Exchange, items: list[dict[str, Any]]) -> None:
    errors = any("error" in item for one in items for item in one.values())
    await at.say("200 OK", json.dumps({"errors": errors, "items": items}, separators=(",", ":")).encode())


async def take(at: Exchange) -> None:
    if len(at.asked.body) > _of(at).limit_bytes:
        await at.say("413 Request Entity Too Large", b"too large")
        return
    await _tell(at, _of(at).store(at))


async def lose_reply(at: Exchange) -> None:
    _of(at).store(at)
    at.writer.close()


async def store_in_silence(at: Exchange) -> None:
    _of(at).store(at)
    await asyncio.Event().wait()


def speaks_of(count: int) -> Act:
    """Takes nothing, and says that it took so many documents."""

    async def act(at: Exchange) -> None:
        await _tell(at, [{"index": {"status": 201}}] * count)

    return act
