"""The main job, to be watched: `python -m firehose.demo` (`make demo`).

Runs the service as a process of its own in a new folder under `.demo`, posts sample events as a log agent would and
some through the AWS API, shows which partition is cut when and where it lands, waits for delivery, lists the folders of
the Parquet objects and queries them with `firehose query`. Exits 0 only if every accepted record is in an object. It
talks to the service from outside alone, as any client does.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import posixpath
import random
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.tree import Tree

from firehose import sample
from firehose.blocks import MIB
from firehose.buffer.disk import LocalDisk
from firehose.cli.client import Client, Service, ingest
from firehose.cli.show import Failure, size
from firehose.runtime import Runtime

FOLDER = ".demo"
STREAM = "app"
SIZE_MIB, INTERVAL_SECONDS = 0.5, 4
POSTS, EVENTS_PER_POST, PUT_RECORDS = 60, 400, 500
START_MS = sample.START_MS - 240_000  # the events pass midnight on their way: two days
PAUSE_SECONDS = 0.03  # between two posts: an agent sends as its host logs, not as fast as it can
STEP_SECONDS = 300  # a slow machine's, for the start, the delivery, the stop and the queries each
POLL_SECONDS = 0.1
LOG_LINES = 30
CONFIG = """\
service:
  listen: 127.0.0.1:0        # any free port
  data_dir: {data_dir}
  reserve_mib: 16
  log_format: json
  log_level: debug           # tells of every cut
delivery_streams:
  {stream}:
    buffering: {{size_mib: {size}, interval_seconds: {interval}}}      # of each partition
    dynamic_partitioning: {{columns: [day(timestamp), service]}}
    destination:
      type: folder
      path: {objects}
      prefix: {stream}/
      format: {{type: parquet, schema: infer}}
"""
STATUS_QUERY = f"select status, count(distinct trace_id) as events from {STREAM} group by status order by events desc"
P95 = "round(quantile_cont(latency_ms, 0.95), 1) as p95_ms"
LATENCY_QUERY = (
    f"select service, {P95} from {STREAM} where timestamp_day = '2026-01-01' group by service order by p95_ms desc"
)


@dataclass(slots=True)
class Running:
    """The service's process, and what its log has told so far."""

    process: asyncio.subprocess.Process
    console: Console
    lake: Lake
    port: asyncio.Future[int]
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    async def follow(self) -> None:
        """Reads the log to its end, and says what trips when."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.tail.append(line.decode(errors="replace").rstrip())
            with suppress(ValueError):
                self._told(json.loads(line))
        if not self.port.done():
            self.port.set_exception(Failure("the service ended before it was ready"))

    def _told(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "service.ready":
            self.port.set_result(int(event["port"]))
        if event.get("event") == "partition.cut":
            by_size = event["size_bytes"] >= SIZE_MIB * MIB
            why = f"{SIZE_MIB} MiB of a partition is full" if by_size else f"a partition is {INTERVAL_SECONDS} s old"
            self.console.print(f"  {why}: cut with {event['records']:,} records, {size(event['size_bytes'])}")
        if event.get("event") == "segment.delivered" and event.get("objects"):
            where = self.lake.folder_of(event["segment"])
            self.console.print(
                f"    {where}/: {event['delivered']:,} records as {size(event['sent_bytes'])} of Parquet"
            )


@dataclass(frozen=True, slots=True)
class Landed:
    """An object, and what its own footer says."""

    name: str
    size_bytes: int
    records: int
    segment: str


@dataclass(slots=True)
class Lake:
    """The folder that the objects land in. Each is read once."""

    path: str
    _known: dict[str, Landed] = field(default_factory=dict)

    def objects(self) -> list[Landed]:
        disk = LocalDisk()
        for stored in disk.tree(self.path):
            if stored.name.endswith(".parquet") and stored.name not in self._known:
                footer = pq.read_metadata(pa.BufferReader(disk.read(posixpath.join(self.path, stored.name))))
                segment = f"{STREAM}/{footer.metadata[b'firehose.segment'].decode()}"
                self._known[stored.name] = Landed(stored.name, stored.size_bytes, footer.num_rows, segment)
        return sorted(self._known.values(), key=lambda one: one.name)

    def folder_of(self, segment: str) -> str:
        return next((posixpath.dirname(one.name) for one in self.objects() if one.segment == segment), "nowhere")


async def demo(console: Console, folder: str) -> None:
    """The whole of it. Raises `Failure`."""
    disk, config = LocalDisk(), f"{folder}/firehose.yaml"
    disk.make_folder(folder)
    disk.replace(config, configuration(folder).encode())
    lake = Lake(f"{folder}/objects")
    _title(console, f"Starting the service: firehose serve -c {config}")
    running = await _started(config, console, lake)
    following = asyncio.create_task(running.follow())
    try:
        async with asyncio.timeout(STEP_SECONDS):
            port = await running.port
        console.print(f"  ready on 127.0.0.1:{port}; objects by day and service, as Parquet")
        async with Client(Service(f"http://127.0.0.1:{port}")) as client:
            sent = await _send(client, console)
            await _deliver(client, console, sent)
        await _stop(running, console)
        await _show(console, config, lake, sent)
    except (Failure, TimeoutError) as error:
        last = "\n".join(running.tail)
        raise Failure(f"{error or 'it took too long'}\nThe service's log ends with:\n{last}") from error
    finally:
        if running.process.returncode is None:
            running.process.kill()
        await running.process.wait()
        await following


def configuration(folder: str) -> str:
    """The service's file. JSON's quotes are YAML's too: a path may hold anything."""
    folder = os.path.abspath(folder)
    return CONFIG.format(
        data_dir=json.dumps(f"{folder}/data"),
        objects=json.dumps(f"{folder}/objects"),
        stream=STREAM,
        size=SIZE_MIB,
        interval=INTERVAL_SECONDS,
    )


async def _started(path: str, console: Console, lake: Lake) -> Running:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firehose.cli", "serve", "-c", path, stderr=asyncio.subprocess.PIPE
    )
    return Running(process, console, lake, asyncio.get_running_loop().create_future())


async def _send(client: Client, console: Console) -> int:
    """Posts gzipped NDJSON as a log agent does, then one PutRecordBatch; how many records were accepted."""
    events = sample.events(random.Random(1), START_MS)
    _title(
        console, f"Sending {POSTS * EVENTS_PER_POST:,} events: POST {ingest(STREAM)}, {EVENTS_PER_POST} at a time, gzip"
    )
    columns = (BarColumn(), TextColumn("{task.completed:,} of {task.total:,} events accepted"), TimeElapsedColumn())
    accepted = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=POSTS * EVENTS_PER_POST)
        for _ in range(POSTS):
            accepted += await _post(client, list(islice(events, EVENTS_PER_POST)))
            bar.update(task, completed=accepted)
            await asyncio.sleep(PAUSE_SECONDS)
    console.print(f"  {accepted:,} events accepted: durable before each answer")
    _title(console, f"Sending {PUT_RECORDS} more with the AWS API: PutRecordBatch")
    accepted += await _put_record_batch(client, list(islice(events, PUT_RECORDS)))
    console.print(f"  {accepted:,} records accepted in all")
    return accepted


async def _post(client: Client, events: Sequence[bytes]) -> int:
    body = gzip.compress(b"\n".join(events), 1)
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    answer = await client.post(ingest(STREAM), body, headers)
    if answer.status != 200:
        raise Failure(f"the service answers {answer.status}: {answer.reason}")
    return int(answer.said["accepted"])


async def _put_record_batch(client: Client, events: Sequence[bytes]) -> int:
    """What boto3's put_record_batch sends; signatures are not looked at."""
    records = [{"Data": base64.b64encode(event + b"\n").decode()} for event in events]
    body = json.dumps({"DeliveryStreamName": STREAM, "Records": records}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecordBatch"}
    answer = await client.post("/", body, headers)
    if answer.status != 200:
        raise Failure(f"PutRecordBatch is answered {answer.status}: {answer.reason}")
    return len(events) - int(answer.said["FailedPutCount"])


async def _deliver(client: Client, console: Console, sent: int) -> None:
    """Waits until the thresholds have sent everything on its way, then adds it all up."""
    _title(console, f"Waiting: what a partition still holds goes when it is {INTERVAL_SECONDS} s old")
    columns = (BarColumn(), TextColumn("{task.completed:,} of {task.total:,} records delivered"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=sent)
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                (stream,) = await client.ask("GET", "/v1/streams", {})
                bar.update(task, completed=sum(place["delivered"] for place in stream["destinations"]))
                if bar.finished:
                    break
                await asyncio.sleep(POLL_SECONDS)
    (place,) = stream["destinations"]
    ends = {name: place[name] for name in ("delivered", "dropped", "dead", "buffered")}
    _title(console, "Adding up")
    said = " + ".join(f"{count:,} {name}" for name, count in ends.items())
    console.print(f"  {stream['accepted']:,} accepted = {said}; imbalance {place['imbalance']}")
    if place["imbalance"] or stream["accepted"] != sum(ends.values()):
        raise Failure("the records do not add up")


async def _stop(running: Running, console: Console) -> None:
    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(STEP_SECONDS):
        status = await running.process.wait()
    if status:
        raise Failure(f"the service ended with status {status}")
    console.print("  the service has stopped: everything was delivered, nothing is left in its buffer")


async def _show(console: Console, config: str, lake: Lake, sent: int) -> None:
    """The objects in their folders, and what `firehose query` finds in them."""
    _title(console, f"{len(lake.objects())} objects in {lake.path}, by folder")
    console.print(_tree(lake))
    queries = (STATUS_QUERY, LATENCY_QUERY)
    async with asyncio.timeout(STEP_SECONDS):
        charts = await asyncio.gather(*(_asked(config, query) for query in queries))
    make_sure(lake.objects(), charts[0], sent)
    console.print(f"  every one of the {sent:,} accepted records is in them, once")
    for query, bars in zip(queries, charts, strict=True):
        _title(console, f'firehose query -c {config} "{query}"')
        _chart(console, bars)


def make_sure(objects: Sequence[Landed], bars: Sequence[Mapping[str, Any]], sent: int) -> None:
    """As many rows as records were sent, and as many different ones: each is there, once. Raises `Failure`."""
    rows, different = sum(one.records for one in objects), sum(bar["events"] for bar in bars)
    if (rows, different) != (sent, sent):
        raise Failure(f"the objects hold {rows:,} records, {different:,} different ones; {sent:,} were accepted")


def _tree(lake: Lake) -> Tree:
    """Folders of folders, the innermost with what is in it."""
    tree, nodes = Tree(f"{STREAM}/", guide_style="dim"), dict[str, Tree]()
    for folder, group in groupby(lake.objects(), key=lambda one: posixpath.dirname(one.name)):
        inside = list(group)
        _, day, service = folder.split("/")
        if day not in nodes:
            nodes[day] = tree.add(f"{day}/")
        records, size_bytes = sum(one.records for one in inside), sum(one.size_bytes for one in inside)
        objects = f"{len(inside)} object{'s' if len(inside) > 1 else ' '}"
        nodes[day].add(f"{service + '/':<18} {objects}  {records:>6,} records  {size(size_bytes):>10}")
    return tree


async def _asked(config: str, query: str) -> list[dict[str, Any]]:
    """The rows, from the command itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firehose.cli", "query", "-c", config, "--json", query),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    found, said = await process.communicate()
    if process.returncode:
        raise Failure(f"firehose query ended with status {process.returncode}: {said.decode(errors='replace')}")
    rows: list[dict[str, Any]] = json.loads(found)
    return rows


def _chart(console: Console, rows: Sequence[Mapping[str, Any]], width: int = 40) -> None:
    """A bar for each row of a label and a number."""
    block = "█" if console.encoding.startswith("utf") else "#"
    label, number = rows[0]
    longest = max(row[number] for row in rows)
    console.print(f"  {label:<10} {number:>{width + 11}}", style="dim")
    for name, value in (row.values() for row in rows):
        bar = f"{block * max(1, round(width * value / longest)):<{width}}"
        console.print(f"  {name:<10} [cyan]{bar}[/cyan] {value:>10,}")


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = f"{FOLDER}/{Runtime().lane_name()}"
    try:
        asyncio.run(demo(console, folder))
    except Failure as error:
        console.print(f"\nThe demo failed: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 1
    console.print(f"\nEverything is in {folder}: the configuration, and the objects to look at.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
