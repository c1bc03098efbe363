"""A channel to a Splunk HTTP Event Collector: what is sent on it, and whether Splunk has indexed that.

Splunk numbers the requests of a channel, forgets the numbers when it is restarted, and then counts anew. So a channel
has one request open at a time, and is used again only when that is known to be indexed: a number that is said to be
indexed is then never another request's. It must never tell the token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from firehose import hec
from firehose.contracts import Retry
from firehose.hidden import Hidden
from firehose.posting import Answer, Failed, Posting, shown


@dataclass(frozen=True, slots=True)
class Collector:
    """How Splunk is reached."""

    posting: Posting
    url: str
    token: str = field(repr=False)
    hidden: Hidden

    def retry(self, what: str, trouble: hec.Trouble, after_seconds: float | None = None) -> Retry:
        way_out = f"; {trouble.way_out}" if trouble.way_out else ""
        reason = self.hidden.out_of(f"{shown(self.url)}: {what}{way_out}")
        return Retry(reason, after_seconds, code=f"Splunk.{trouble.code}")

    def failure(self, answer: Answer, trouble: hec.Trouble) -> Retry:
        text = f" {answer.text()}" if answer.body else ""
        return self.retry(f"answers {answer.status}{text}", trouble, answer.after_seconds)


class NotTaken(Exception):
    """Splunk did not take a request's records, and says why."""

    def __init__(self, trouble: hec.Trouble, failure: Retry) -> None:
        super().__init__(failure.reason)
        self.trouble = trouble
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Channel:
    """All its methods raise `Retry`."""

    collector: Collector
    id: str
    cookies: hec.Cookies = field(default_factory=hec.Cookies)

    async def send(self, path: str, body: bytes, request_id: str) -> int:
        """The request's number, to be asked about later. Raises `NotTaken` too."""
        kind = "application/json" if path == hec.EVENT else "text/plain; charset=utf-8"
        answer = await self._ask("POST", path, body, {"Content-Type": kind, "X-Request-Id": request_id})
        if trouble := hec.trouble(answer):
            raise NotTaken(trouble, self.collector.failure(answer, trouble))
        told = hec.said(answer)
        if told is None or told.ack_id is None:
            raise self.collector.retry("takes records, but does not acknowledge them", hec.NO_ACKS)
        return told.ack_id

    async def indexed(self, number: int) -> bool:
        """Whether the request is. Splunk says so once, and then forgets the number."""
        body = json.dumps({"acks": [number]}).encode()
        kind = {"Content-Type": "application/json"}
        answer = await self._ask("POST", f"{hec.ACK}?channel={self.id}", body, kind)
        found = hec.acknowledged(answer)
        if isinstance(found, hec.Trouble):
            raise self.collector.failure(answer, found)
        return number in found

    async def probe_health(self) -> None:
        answer = await self._ask("GET", hec.HEALTH)
        if trouble := hec.trouble(answer):
            raise self.collector.failure(answer, trouble)

    async def probe_token(self) -> None:
        """Sends no event at all, of which a collector that knows the token complains: as AWS does."""
        answer = await self._ask("POST", hec.EVENT, b"", {"Content-Type": "application/json"})
        told, trouble = hec.said(answer), hec.trouble(answer)
        if trouble and (told is None or told.code != hec.NO_DATA):
            raise self.collector.failure(answer, trouble)

    async def probe_acks(self) -> None:
        """Whether requests are acknowledged at all: where not, each attempt would store their records anew. A channel
        that nothing was sent on may be unknown, which is fine.
        """
        try:
            await self.indexed(0)
        except Retry as failure:
            if failure.code != f"Splunk.{hec.OTHER_NODE.code}":
                raise

    async def _ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        fixed = {
            "Authorization": f"Splunk {self.collector.token}",
            "X-Splunk-Request-Channel": self.id,
            "User-Agent": "firehose",
            "Accept-Encoding": "identity",
        }
        fields = {**fixed, **self.cookies.header(), **(headers or {})}
        try:
            answer = await self.collector.posting.ask(method, self.collector.url + path, fields, body)
        except Failed as failed:
            raise self.collector.retry(str(failed), hec.KINDS[failed.kind]) from failed
        self.cookies.keep(answer)
        return answer
