"""Every metric and every log event, named in one place. Payloads are never logged.

Metrics are read from what the parts know when they are asked for; only what happens too fast to be kept elsewhere
(requests, failures) is counted here. `METRICS` is the documentation: the name, its kind, what it says, and the
metric of AWS that it stands for (firehose.md section 15).
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from firehose.absent import absent
from firehose.model import Segment, Totals

with absent("rich"):  # for tracebacks that show what was in the variables: 4 MB, and what must not be in a log
    import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("firehose")


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: kind (`counter`, `gauge`), labels, what it says, and AWS's metric of the same meaning."""

    kind: str
    labels: tuple[str, ...]
    says: str
    aws: str = ""


ONE = ("stream", "destination")
HOOK = ("stream", "hook")
METRICS: Mapping[str, Described] = {
    "firehose_requests": Described(
        "counter",
        ("dialect", "status"),
        "HTTP requests answered",
        "IncomingPutRequests where status is 200, ThrottledRecords where it is 503",
    ),
    "firehose_request_bytes": Described("counter", ("dialect",), "bytes of request bodies read"),
    "firehose_in_flight_bytes": Described("gauge", (), "bytes of request bodies in memory now"),
    "firehose_connections": Described("gauge", (), "connections open now"),
    "firehose_accepted_records": Described(
        "counter", ("stream",), "records made durable, by the lanes' own numbers", "IncomingRecords"
    ),
    "firehose_accepted_bytes": Described(
        "counter", ("stream",), "bytes of those records, since the service started", "IncomingBytes"
    ),
    "firehose_buffered_bytes": Described("gauge", ("stream",), "bytes of the stream's buffer files"),
    "firehose_buffer_limit_bytes": Described("gauge", ("stream",), "the stream's limit_gib"),
    "firehose_buffered_records": Described(
        "gauge", ONE, "records accepted and not yet at their end, held ones included"
    ),
    "firehose_held_records": Described("gauge", ONE, "records of held segments: see firehose buffer release"),
    "firehose_delivered_records": Described(
        "counter", ONE, "records (rows, once split) delivered", "DeliveryTo*.Records, less the dead ones"
    ),
    "firehose_delivered_bytes": Described("counter", ONE, "bytes sent, encoded and compressed", "DeliveryTo*.Bytes"),
    "firehose_delivered_objects": Described("counter", ONE, "objects written", "DeliveryToS3.ObjectCount"),
    "firehose_dropped_records": Described(
        "counter",
        ONE,
        "records dropped by the stream's own transforms, or let go with a destination that was taken out",
    ),
    "firehose_filtered_records": Described("counter", ONE, "records that the destination's own filter left out"),
    "firehose_dead_records": Described("counter", ONE, "records sent to the error output"),
    "firehose_hook_requests": Described(
        "counter", HOOK, "payloads that the user's code was handed, its further attempts at them left out"
    ),
    "firehose_hook_seconds": Described(
        "counter",
        HOOK,
        "time from there to their outcomes, summed where they ran side by side",
        "ExecuteProcessing.Duration",
    ),
    "firehose_hook_refused_records": Described(
        "counter", HOOK, "records that it refused, or at which it failed", "ExecuteProcessing.Success, as a count"
    ),
    "firehose_expired_objects": Described(
        "counter", ("stream",), "objects of dead letters removed after retention_days, since the delivery half started"
    ),
    "firehose_expired_bytes": Described("counter", ("stream",), "bytes of those objects"),
    "firehose_damaged_records": Described("counter", ONE, "records lost to damage; a damaged file is kept"),
    "firehose_split_rows": Described("counter", ONE, "rows beyond the first of a record"),
    "firehose_imbalance_records": Described(
        "gauge", ONE, "accepted + split - delivered - dropped - filtered - dead - damaged - buffered; 0, see above"
    ),
    "firehose_active_partitions": Described(
        "gauge", ("stream",), "dynamic partitions with rows still to be delivered", "PartitionCount"
    ),
    "firehose_exceeding_records": Described(
        "counter",
        ("stream",),
        "records that would have opened a partition past the limit, since the delivery half started",
        "PartitionCountExceeded, as a count",
    ),
    "firehose_cuts": Described("counter", ONE, "cuts of dynamic partitions made, since the delivery half started"),
    "firehose_oldest_record_age_seconds": Described(
        "gauge", ONE, "age of the oldest record not yet at its end; 0 when there is none", "DeliveryTo*.DataFreshness"
    ),
    "firehose_delivery_failures": Described("counter", ONE, "attempts that failed", "DeliveryTo*.Success, as a count"),
    "firehose_delivery_paused": Described("gauge", ONE, "1 while the stream is paused at this destination"),
    "firehose_last_error_timestamp_seconds": Described("gauge", ONE, "when the last attempt failed; 0: never"),
    "firehose_data_stream_shards": Described("gauge", ("data_stream",), "open shards", "OpenShardCount"),
    "firehose_data_stream_incoming_records": Described(
        "counter", ("data_stream",), "records a data stream took, since the service started", "IncomingRecords"
    ),
    "firehose_data_stream_incoming_bytes": Described(
        "counter", ("data_stream",), "bytes of those records with their partition keys", "IncomingBytes"
    ),
    "firehose_data_stream_stored_bytes": Described("gauge", ("data_stream",), "bytes of a data stream's files"),
    "firehose_data_stream_limit_bytes": Described("gauge", ("data_stream",), "the data stream's limit_gib"),
    "firehose_source_records": Described(
        "counter", ("stream",), "records read from the stream's source", "DataReadFromKinesisStream.Records"
    ),
    "firehose_source_bytes": Described(
        "counter", ("stream",), "bytes of those records", "DataReadFromKinesisStream.Bytes"
    ),
    "firehose_source_lag_seconds": Described(
        "gauge",
        ("stream",),
        "age of the oldest record that waits in a shard of the source, as it was last read; 0 at the tip",
        "KinesisMillisBehindLatest",
    ),
    "firehose_source_expired_records": Described(
        "counter", ("stream",), "records, at least, that the source's retention took away unread"
    ),
    "firehose_source_failures": Described("gauge", ("stream",), "shards of the source that cannot be read now"),
    "firehose_delivery_up": Described("gauge", (), "1 while the delivery half runs and answers"),
    "firehose_delivery_restarts": Described("counter", (), "how often the delivery process had to be started again"),
    "firehose_disk_free_bytes": Described("gauge", (), "free space where data_dir is"),
    "firehose_disk_failures": Described("counter", (), "writes, syncs or renames of the buffer that failed"),
    "firehose_damaged_files": Described("counter", (), "damaged ranges that a start found in files of the buffer"),
}
Sample = tuple[str, tuple[str, ...], float]


def exposed(name: str) -> str:
    """The metric's name on the page: Prometheus' counters end in `_total`."""
    return f"{name}_total" if METRICS[name].kind == "counter" else name


def metrics_page() -> str:
    """All metrics as a page of documentation: docs/metrics.md is this, and a test holds that."""
    rows = [
        f"| `{exposed(name)}` | {one.kind} | {', '.join(one.labels)} | {one.says} | {one.aws} |"
        for name, one in METRICS.items()
    ]
    return "\n".join([*METRICS_PAGE, *rows, ""])


METRICS_PAGE = (
    "# Metrics",
    "",
    "`GET /metrics` has these, in Prometheus' text format. The last column names the metric of AWS (namespace",
    "`AWS/Firehose`) that comes nearest, for dashboards that are moved here. `DeliveryTo*` stands",
    "for `DeliveryToS3` and its like; where AWS publishes a sum per minute, take `increase()` over one.",
    "",
    "Conservation: for each stream and destination `firehose_imbalance_records` is 0; a delivery half that starts",
    "while a segment is sealed may know of it before its writer does, and it is negative in one reading. What lasts is",
    "worth an alert, and so are a growing `firehose_oldest_record_age_seconds` and `firehose_held_records` over 0.",
    "While `firehose_delivery_up` is 0, what has the label destination is missing: alert on that too.",
    "",
    "| name | kind | labels | meaning | AWS |",
    "|---|---|---|---|---|",
)


@dataclass(slots=True)
class Requests:
    """Counts of the front door. Plain numbers: they are touched once per request."""

    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    body_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, dialect: str, status: int, size_bytes: int) -> None:
        self.answered[dialect, status] += 1
        self.body_bytes[dialect] += size_bytes

    def samples(self) -> Iterator[Sample]:
        for (dialect, status), count in self.answered.items():
            yield "firehose_requests", (dialect, str(status)), count
        for dialect, size in self.body_bytes.items():
            yield "firehose_request_bytes", (dialect,), size


def totals_samples(place: tuple[str, str], totals: Totals) -> Iterator[Sample]:
    """How a destination's records ended."""
    yield "firehose_delivered_records", place, totals.delivered
    yield "firehose_delivered_bytes", place, totals.sent_bytes
    yield "firehose_delivered_objects", place, totals.objects
    yield "firehose_dropped_records", place, totals.dropped
    yield "firehose_filtered_records", place, totals.filtered
    yield "firehose_dead_records", place, totals.dead
    yield "firehose_damaged_records", place, totals.damaged
    yield "firehose_split_rows", place, totals.split


class StandardError:
    """Whatever that is by then. What it does not take is lost: its disk may be full, its reader gone, and neither may
    end what was about to be told, least of all the mending of a disk.
    """

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the second: it is closed
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


_standard_error: Any = StandardError()  # one for all loggers, which take turns at it


def configure(form: str, level: str) -> None:
    """Sets up logging for the process: JSON lines, or colours where people watch, on standard error."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.processors.JSONRenderer()
    if console:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: structlog.WriteLogger(_standard_error),
    )
    logging.lastResort = Libraries(logging.WARNING)


def listen(take: Callable[[str, Mapping[str, Any]], None]) -> None:
    """Events go to `take`, by name and members, and not to the log: for tools, which speak to people themselves."""

    def told(_: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        take(event.pop("event"), event)
        raise structlog.DropEvent

    structlog.configure(processors=[told], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


class Libraries(logging.Handler):
    """What a library (uvicorn, boto) has to say, as an event like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(record.levelno, logging.CRITICAL)
        log.log(level, "library.said", library=record.name, message=record.getMessage(), exc_info=record.exc_info)


def segment_ended(stream: str, destination: str, segment: Segment, totals: Totals, now_ms: int) -> None:
    """One whose totals do not account for all its records is parted: these go on in cuts, which end as segments do."""
    log.info(
        "segment.delivered" if totals.records == segment.count else "segment.parted",
        stream=stream,
        destination=destination,
        segment=str(segment),
        age_seconds=round(now_ms / 1000 - segment.opened_at.timestamp(), 1),
        **totals.to_json(),
    )


def delivery_failed(stream: str, destination: str, segment: Segment, reason: str) -> None:
    log.warning("delivery.failed", stream=stream, destination=destination, segment=str(segment), reason=reason)


def letters_expired(stream: str, objects: int, size_bytes: int) -> None:
    log.info("letters.expired", stream=stream, objects=objects, size_bytes=size_bytes)


def sweep_failed(stream: str, reason: str) -> None:
    log.warning("letters.sweep_failed", stream=stream, reason=reason)


def disk_failed(reason: str) -> None:
    log.error("disk.failed", reason=reason)


def damaged(what: str) -> None:
    log.error("buffer.damaged", what=what)


def torn(path: str, offset: int, size_bytes: int) -> None:
    """What a crash leaves of a write that was never acknowledged; damage there looks the same."""
    log.warning("buffer.torn_end_cut", path=path, offset=offset, size_bytes=size_bytes)


def segment_sealed(segment: Segment) -> None:
    log.debug("segment.sealed", segment=str(segment), records=segment.count, size_bytes=segment.size_bytes)


def partition_cut(segment: Segment) -> None:
    """Its name is of the user's data, and stays out of the log."""
    log.debug("partition.cut", segment=str(segment), records=segment.count, size_bytes=segment.size_bytes)
