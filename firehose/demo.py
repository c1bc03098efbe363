"""The main job, to be watched: `python -m firehose.demo` (`make demo`).

Runs the service as a process of its own in a new folder under `.demo`, posts sample events as a log agent would and
some through the AWS API, shows which threshold trips when, waits for delivery, lists the objects and queries them.
Exits 0 only if every accepted record is in an object. It talks to the service from outside alone, as any client does.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import random
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from firehose import config, sample
from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.cli.client import Client, Service, ingest
from firehose.cli.show import Failure, as_table, size
from firehose.runtime import Runtime

FOLDER = ".demo"
STREAM = "app"
SIZE_MIB, INTERVAL_SECONDS = 1, 2
POSTS, EVENTS_PER_POST, PUT_RECORDS = 60, 400, 500
PAUSE_SECONDS = 0.03  # between two posts: an agent sends as its host logs, not as fast as it can
READY_SECONDS, DELIVERED_SECONDS, STOP_SECONDS, POLL_SECONDS = 20, 20, 20, 0.1
LOG_LINES = 30
CONFIG = """\
service:
  listen: 127.0.0.1:0        # any free port
  data_dir: {data_dir}
  reserve_mib: 16
  log_format: json
  log_level: debug           # tells of every sealed segment
delivery_streams:
  {stream}:
    buffering: {{size_mib: {size}, interval_seconds: {interval}}}
    destination:
      type: folder
      path: {objects}
      prefix: "{stream}/dt=!{{timestamp:yyyy-MM-dd}}/"
      format: {{type: parquet, schema: infer}}
"""
STATUS_QUERY = f"select status, count(*) as events from {STREAM} group by status order by events desc, status"
P95 = "round(quantile_cont(latency_ms, 0.95), 1) as p95_ms"
LATENCY_QUERY = f"select service, {P95} from {STREAM} group by service order by p95_ms desc"
CHART_ROWS = 20
QUERY_MIB, SPILL_MIB = 512, 256


@dataclass(slots=True)
class Running:
    """The service's process, and what its log has told so far."""

    process: asyncio.subprocess.Process
    console: Console
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
        if event.get("event") == "segment.sealed":
            by_size = event["size_bytes"] >= SIZE_MIB * 1024 * 1024
            what = f"{SIZE_MIB} MiB is full" if by_size else f"{INTERVAL_SECONDS} s are over"
            self.console.print(f"  {what}: {event['records']:,} records, {size(event['size_bytes'])}, sealed")
        if event.get("event") == "segment.delivered":
            self.console.print(f"    delivered {event['delivered']:,} records as {size(event['sent_bytes'])}")


async def demo(console: Console, folder: str) -> None:
    """The whole of it. Raises `Failure`."""
    disk = LocalDisk()
    disk.make_folder(folder)
    disk.replace(f"{folder}/firehose.yaml", configuration(folder).encode())
    _title(console, f"Starting the service: firehose serve -c {folder}/firehose.yaml")
    running = await _started(f"{folder}/firehose.yaml", console)
    following = asyncio.create_task(running.follow())
    try:
        async with asyncio.timeout(READY_SECONDS):
            port = await running.port
        console.print(f"  ready on 127.0.0.1:{port}")
        async with Client(Service(f"http://127.0.0.1:{port}")) as client:
            sent = await _send(client, console)
            await _deliver(client, console, sent)
        await _stop(running, console)
        _show(console, folder, sent)
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
    return CONFIG.format(
        data_dir=json.dumps(f"{folder}/data"),
        objects=json.dumps(f"{folder}/objects"),
        stream=STREAM,
        size=SIZE_MIB,
        interval=INTERVAL_SECONDS,
    )


async def _started(path: str, console: Console) -> Running:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firehose.cli", "serve", "-c", path, stderr=asyncio.subprocess.PIPE
    )
    return Running(process, console, asyncio.get_running_loop().create_future())


async def _send(client: Client, console: Console) -> int:
    """Posts gzipped NDJSON as a log agent does, then one PutRecordBatch; how many records were accepted."""
    events = sample.events(random.Random(1))
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
    _title(console, f"Waiting: what is still buffered goes when {INTERVAL_SECONDS} s are over")
    async with asyncio.timeout(DELIVERED_SECONDS):
        while True:
            (stream,) = await client.ask("GET", "/v1/streams", {})
            if stream["destinations"] and stream["destinations"][0]["delivered"] >= sent:
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
    async with asyncio.timeout(STOP_SECONDS):
        status = await running.process.wait()
    if status:
        raise Failure(f"the service ended with status {status}")
    console.print("  the service has stopped: everything was delivered, nothing is left in its buffer")


def _show(console: Console, folder: str, sent: int) -> None:
    """The objects, and what a query over them finds, as `firehose query` does it."""
    from firehose.lake import places  # DuckDB takes a while to load, and nothing else here needs it
    from firehose.lake.engine import Bounds
    from firehose.lake.views import Views

    place = places.of_stream(config.load(f"{folder}/firehose.yaml"), STREAM, None, LocalDisk(), Clients())
    objects, _ = place.objects()
    _title(console, f"Objects in {place.shelf.address()}")
    as_table(("object", "size"), [(one.stored.name, size(one.stored.size_bytes)) for one in objects])
    views = Views(Bounds(QUERY_MIB, SPILL_MIB, f"{folder}/spill"))
    with closing(views):
        views.add(place, objects, [STREAM])
        ((count,),) = views.ask(f"select count(*) from {STREAM}", 1).rows
        if count != sent:
            raise Failure(f"the objects hold {count:,} records, {sent:,} were accepted")
        console.print(f"  {count:,} records in {len(objects)} objects")
        for query in (STATUS_QUERY, LATENCY_QUERY):
            _title(console, f'firehose query -c {folder}/firehose.yaml "{query}"')
            answer = views.ask(query, CHART_ROWS)
            _chart(console, answer.columns, [(str(label), value) for label, value in answer.rows])


def _chart(console: Console, columns: Sequence[str], bars: Sequence[tuple[str, float]], width: int = 40) -> None:
    block = "█" if console.encoding.startswith("utf") else "#"
    longest = max(value for _, value in bars)
    console.print(f"  {columns[0]:<10} {columns[1]:>{width + 11}}", style="dim")
    for label, value in bars:
        bar = f"{block * max(1, round(width * value / longest)):<{width}}"
        console.print(f"  {label:<10} [cyan]{bar}[/cyan] {value:>10,}")


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = os.path.abspath(f"{FOLDER}/{Runtime().lane_name()}")
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
