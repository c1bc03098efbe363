"""Where records stand, and law 7: for each destination, accepted + split = delivered + dropped + filtered + dead +
damaged + buffered.

The left side comes from the lanes' dense numbers, the right side from the ledger and from what lies sealed on disk:
independent sources, so that the sum can fail. Both are taken at one moment: the question to the delivery half travels
behind every announcement of a sealed segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firehose import observe
from firehose.model import Totals


@dataclass(frozen=True, slots=True)
class PlaceStanding:
    """A stream at one destination."""

    destination: str
    owed: int  # records sealed while the stream had this destination
    open: int  # records taken and not sealed yet
    totals: Totals
    pending: int  # records of sealed segments that have not found their end
    held: int
    oldest_ms: int | None
    failures: int = 0
    last_error: str = ""
    last_error_ms: int = 0
    last_delivered_ms: int = 0
    paused: str = ""
    cuts: int = 0  # of dynamic partitions, since the delivery half began

    @property
    def imbalance(self) -> int:
        """Records that nobody can account for; negative where more were accounted for than came in."""
        return self.owed - self.totals.records - self.pending

    @property
    def buffered(self) -> int:
        return self.pending + self.open

    def age_seconds(self, now_ms: int) -> float:
        return max(0.0, (now_ms - self.oldest_ms) / 1000) if self.oldest_ms is not None else 0.0


@dataclass(frozen=True, slots=True)
class StreamStanding:
    name: str
    state: str
    version: int
    accepted: int
    buffered_bytes: int
    limit_bytes: int
    places: tuple[PlaceStanding, ...] = field(default=())
    accepted_bytes: int = 0  # since the process began
    hooks: tuple[Mapping[str, Any], ...] = ()  # what `delivery.watch` says of them
    active_partitions: int = 0
    exceeding_records: int = 0  # would have opened a partition past the limit, since the delivery half began
    expired: tuple[int, int] = (0, 0)  # objects of dead letters, and their bytes, since the delivery half began


def view(stream: StreamStanding, now_ms: int) -> dict[str, Any]:
    """For people and their tools."""
    places = [
        {
            "destination": place.destination,
            "delivered": place.totals.delivered,
            "dead": place.totals.dead,
            "dropped": place.totals.dropped,
            "filtered": place.totals.filtered,
            "damaged": place.totals.damaged,
            "split": place.totals.split,
            "buffered": place.buffered,
            "held": place.held,
            "imbalance": place.imbalance,
            "objects": place.totals.objects,
            "oldest_age_seconds": round(place.age_seconds(now_ms), 3),
            "last_delivered_ms": place.last_delivered_ms,
            "last_error": place.last_error,
            "last_error_ms": place.last_error_ms,
            "paused": place.paused,
        }
        for place in stream.places
    ]
    return {
        "name": stream.name,
        "state": stream.state,
        "version": stream.version,
        "accepted": stream.accepted,
        "buffered_bytes": stream.buffered_bytes,
        "limit_bytes": stream.limit_bytes,
        "destinations": places,
    }


def samples(streams: list[StreamStanding], now_ms: int) -> Iterator[observe.Sample]:
    """For Prometheus."""
    for stream in streams:
        one = (stream.name,)
        yield "firehose_accepted_records", one, stream.accepted
        yield "firehose_accepted_bytes", one, stream.accepted_bytes
        yield "firehose_buffered_bytes", one, stream.buffered_bytes
        yield "firehose_buffer_limit_bytes", one, stream.limit_bytes
        yield "firehose_expired_objects", one, stream.expired[0]
        yield "firehose_expired_bytes", one, stream.expired[1]
        yield "firehose_active_partitions", one, stream.active_partitions
        yield "firehose_exceeding_records", one, stream.exceeding_records
        for hook in stream.hooks:
            labels = (stream.name, hook["hook"])
            yield "firehose_hook_requests", labels, hook["requests"]
            yield "firehose_hook_seconds", labels, hook["seconds"]
            yield "firehose_hook_refused_records", labels, hook["refused"]
        for place in stream.places:
            yield from _place_samples((stream.name, place.destination), place, now_ms)


def _place_samples(labels: tuple[str, str], place: PlaceStanding, now_ms: int) -> Iterator[observe.Sample]:
    yield "firehose_buffered_records", labels, place.buffered
    yield "firehose_held_records", labels, place.held
    yield "firehose_imbalance_records", labels, place.imbalance
    yield "firehose_oldest_record_age_seconds", labels, place.age_seconds(now_ms)
    yield "firehose_delivery_failures", labels, place.failures
    yield "firehose_delivery_paused", labels, float(bool(place.paused))
    yield "firehose_last_error_timestamp_seconds", labels, place.last_error_ms / 1000
    yield "firehose_cuts", labels, place.cuts
    yield from observe.totals_samples(labels, place.totals)
