"""Splunk's HTTP Event Collector: its paths, which records it can take, and what its answers mean in AWS's codes.

Pure: nothing here talks to anybody. The numbers are those of Splunk's own table; where a proxy answers in its place,
only the status is left to go by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pyarrow as pa

from firehose.posting import Answer, Kind

COLLECTOR = "/services/collector"
EVENT, RAW = f"{COLLECTOR}/event", f"{COLLECTOR}/raw"
ACK, HEALTH = f"{COLLECTOR}/ack", f"{COLLECTOR}/health"
NO_CODE, SUCCESS, NO_DATA, HEALTHY = -1, 0, 5, 17
TAKEN = {SUCCESS, 24, 25}  # the latter two: the queue, or the channel, fills up
TOO_LARGE_STATUS = 413  # told by Splunk with a page, by proxies with anything
COOKIES = 16  # of a channel: load balancers set one or two
COOKIE = re.compile(r"^\s*([!#-'*+.0-9A-Z^_`a-z|~-]{1,256})=([\x21-\x3a\x3c-\x7e]{0,1024})")
BETWEEN_COOKIES = re.compile(r",(?=\s*[^\s;,=]+=)")  # a date has a comma too
Blame = Literal["far", "records", "size"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """AWS's code of it, and what to mend. `blame`: what is wrong with the far side, the records, or their number."""

    code: str
    way_out: str = ""
    blame: Blame = "far"


_TOKEN = Trouble("InvalidToken", "check hec_token")
_DISABLED = Trouble("DisabledToken", "enable the token in Splunk")
_DATA = Trouble("InvalidDataFormat", "check what hec_endpoint_type takes", "records")
_BUSY = Trouble("IndexerBusy")
_SERVER = Trouble("ServerError")
_CHANNEL = Trouble("ServerError", "check that no proxy drops X-Splunk-Request-Channel")
NO_ACKS = Trouble("DisabledAck", "enable indexer acknowledgement for the token in Splunk")
ACK_TIMEOUT = Trouble("AckTimeout", "check that Splunk keeps up, and that a load balancer has sticky sessions")
OTHER_NODE = Trouble("ProxyWithoutStickySessions", "give the load balancer before Splunk sticky sessions")
GARBAGE = Trouble("InvalidHecResponseCharacter", "check that hec_endpoint is an HTTP Event Collector")
TOO_LARGE = Trouble("ServerError.ContentTooLarge", "lower request_mib, or raise max_content_length in Splunk", "size")
CODES: Mapping[int, Trouble] = {
    1: _DISABLED,
    2: _TOKEN,  # required
    3: _TOKEN,  # Authorization is malformed
    4: _TOKEN,
    NO_DATA: _DATA,
    6: _DATA,
    7: Trouble("InvalidIndex", "allow the index for the token in Splunk"),
    8: _SERVER,
    9: _BUSY,
    10: _CHANNEL,  # missing
    11: _CHANNEL,  # invalid
    12: _DATA,  # no event
    13: _DATA,  # a blank event
    14: NO_ACKS,
    15: _DATA,  # indexed fields
    16: _TOKEN,  # as a query is not allowed
    18: _BUSY,
    19: Trouble("IndexerBusy", "Splunk's acknowledgement service is not available"),
    20: _BUSY,
    21: _TOKEN,
    22: _DISABLED,
    23: _SERVER,  # shutting down
    26: _BUSY,  # the queue is full
    27: Trouble("IndexerBusy", "Splunk has too many channels, or requests, that wait for acknowledgement"),
}
_PATH = Trouble("URLNotFound", "check hec_endpoint")
_REDIRECT = Trouble("InvalidEndpoint", "check hec_endpoint: redirects are not followed")
STATUSES: Mapping[int, Trouble] = {
    401: _TOKEN,
    403: _TOKEN,
    404: _PATH,
    405: _PATH,
    410: _PATH,
    413: TOO_LARGE,
    429: _BUSY,
    503: _BUSY,
}
KINDS: Mapping[Kind, Trouble] = {
    "url": _PATH,
    "header": _TOKEN,
    "ca_file": Trouble("SSLUnverified", "check ca_file"),
    "connect": Trouble("InvalidEndpoint", "check hec_endpoint, and that Splunk runs"),
    "certificate": Trouble("SSLUnverified", "check ca_file, and that the certificate is for the host in hec_endpoint"),
    "handshake": Trouble("SSLHandshake", "check whether hec_endpoint should begin with http://"),
    "tls": Trouble("SSLHandshake"),
    "reset": Trouble("ConnectionClosed"),
    "timeout": Trouble("ConnectionTimeout", "check that Splunk is well, and the key timeout_seconds"),
    "malformed": GARBAGE,
    "phrase": GARBAGE,
    "size": GARBAGE,
}


class Said(msgspec.Struct):
    """The members of an answer that mean something to us."""

    code: int | None = None
    ack_id: int | None = msgspec.field(name="ackId", default=None)
    acks: dict[str, bool] | None = None


_said = msgspec.json.Decoder(Said).decode


def said(answer: Answer) -> Said | None:
    """None where it cannot be read."""
    try:
        return _said(answer.body)
    except (ValueError, RecursionError):
        return None


def trouble(answer: Answer) -> Trouble | None:
    """What is wrong with an answer to records or a probe; None: they were taken."""
    told = said(answer)
    code = told.code if told is not None and told.code is not None else NO_CODE
    if answer.status == 200 and code in TAKEN | {HEALTHY}:
        return None
    if answer.status != TOO_LARGE_STATUS and code in CODES:
        return CODES[code]
    if answer.status == 200:
        return GARBAGE
    return _REDIRECT if 300 <= answer.status < 400 else STATUSES.get(answer.status, _SERVER)


def acknowledged(answer: Answer) -> set[int] | Trouble:
    """Of the ids that were asked about, those whose records are indexed."""
    told = said(answer)
    if answer.status == 200 and told is not None and told.acks is not None:
        return {int(id) for id, indexed in told.acks.items() if indexed and id.isascii() and id.isdigit()}
    found = trouble(answer) or GARBAGE
    return OTHER_NODE if found is _CHANNEL else found


@dataclass(slots=True)
class Cookies:
    """What ties a channel to one of the servers behind a load balancer. Of a cookie only name and value count."""

    held: dict[str, str] = field(default_factory=dict)

    def keep(self, answer: Answer) -> None:
        for cookie in BETWEEN_COOKIES.split(answer.headers.get("set-cookie", "")):
            found = COOKIE.match(cookie)
            if found and (found[1] in self.held or len(self.held) < COOKIES):
                self.held[found[1]] = found[2]

    def header(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.held.items())} if self.held else {}


# Which records are events.


class _Event(msgspec.Struct):
    event: msgspec.Raw


_event = msgspec.json.Decoder(_Event).decode
_scan = json.JSONDecoder().raw_decode
BLANK = (b"null", b'""')


def no_events_record_by_record(records: pa.ChunkedArray) -> pa.BooleanArray:
    """Which records the event endpoint would not take: one of them makes Splunk refuse all of a request."""
    return pa.array([not _is_events(record) for record in records.to_pylist()], pa.bool_())


def _is_events(record: bytes) -> bool:
    """Whether it is one event, several in a row, or nothing at all."""
    try:
        return bytes(_event(record).event) not in BLANK
    except (ValueError, RecursionError):
        return all(isinstance(one, dict) and one.get("event") not in (None, "") for one in _values(record))


def _values(record: bytes) -> Iterator[Any]:
    """JSON values in a row; None for what is none."""
    try:
        text = record.decode()
        end = len(text) - len(text.lstrip())
        while end < len(text):
            value, end = _scan(text, end)
            yield value
            end += len(text[end:]) - len(text[end:].lstrip())
    except (ValueError, RecursionError):
        yield None
