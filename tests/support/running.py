"""A whole service for tests: in the test's own event loop (`running`), or as a process of its own (`started`).

Both take the streams as the YAML says them, on a data folder and a free port of their own, and yield once records are
taken. What a test wants to change while it runs it writes into the configuration file (`write`) and reloads.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import yaml
from programs import PATIENCE_SECONDS

from firehose import config, courier
from firehose.buffer.disk import LocalDisk
from firehose.contracts import Disk
from firehose.runtime import Runtime
from firehose.service import Service

Block = Mapping[str, Any]
NEVER = {"size_mib": 64, "interval_seconds": 3600}  # buffering that seals only when it is told to
DELIVERY = {"backoff_seconds": 0.02, "backoff_limit_seconds": 0.1, "probe_seconds": 0.1}


@dataclass(slots=True)
class Files:
    """A test's folder: the configuration, the data folder, and where objects go."""

    root: Path
    service: Block
    delivery: Block = field(default_factory=lambda: DELIVERY)

    @property
    def config(self) -> Path:
        return self.root / "firehose.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def write(self, streams: Block) -> None:
        service = {"listen": "127.0.0.1:0", "data_dir": str(self.data), "reserve_mib": 1, "log_format": "json"}
        document = {
            "service": {**service, **self.service},
            "delivery": dict(self.delivery),
            "delivery_streams": dict(streams),
        }
        self.config.write_text(yaml.safe_dump(document))

    def records(self, folder: str = "out") -> list[str]:
        """Every line of every object below the folder, in the order of the objects' names."""
        files = sorted(p for p in (self.root / folder).rglob("*") if p.is_file() and ".partial" not in str(p))
        return [line for file in files for line in text(file).splitlines()]


def text(file: Path) -> str:
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()


def to_folder(root: Path, folder: str = "out", **keys: Any) -> dict[str, Any]:
    """A destination of `folder` below the test's folder."""
    return {"type": "folder", "path": str(root / folder), **keys}


@dataclass(slots=True)
class Running:
    """A service in the test's event loop, and a client of it."""

    service: Service
    files: Files
    client: httpx.AsyncClient

    async def reload(self, streams: Block) -> None:
        self.files.write(streams)
        await self.service.reload()

    async def post(self, stream: str, body: bytes, **headers: str) -> httpx.Response:
        return await self.client.post(f"/ingest/{stream}", content=body, headers=headers)

    async def flush(self, stream: str) -> dict[str, Any]:
        """Seals what is buffered and waits until it is delivered."""
        answer = await self.client.post(
            f"/v1/streams/{stream}/flush", params={"wait_seconds": PATIENCE_SECONDS}, timeout=2 * PATIENCE_SECONDS
        )
        said: dict[str, Any] = answer.json()
        assert said["delivered"], said
        return said

    async def streams(self) -> dict[str, dict[str, Any]]:
        """What is told of each stream; its destinations by name."""
        told = (await self.client.get("/v1/streams")).json()
        return {
            one["name"]: {**one, "destinations": {place["destination"]: place for place in one["destinations"]}}
            for one in told
        }

    async def metrics(self) -> dict[str, float]:
        """Every sample by name and labels, as they are written."""
        return samples((await self.client.get("/metrics")).text)


def samples(page: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def places_told(client: httpx.AsyncClient) -> dict[str, float]:
    """The metrics once the delivery half tells of its places, which it does not while it starts or is slow."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not imbalances(page := samples((await client.get("/metrics")).text)):
            pass
    return page


def imbalances(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("firehose_imbalance_records")}


@asynccontextmanager
async def running(
    root: Path, streams: Block, *, disk: Disk | None = None, delivery: Block | None = None, **service: Any
) -> AsyncIterator[Running]:
    """A service with both halves in this event loop, which may be slow to answer each other."""
    files = Files(root, {"delivery": "inline", **service}, delivery or DELIVERY)
    files.write(streams)
    whole = Service(
        config.load(str(files.config)), lambda: config.load(str(files.config)), disk or LocalDisk(), Runtime()
    )
    await whole.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{whole.port}", timeout=PATIENCE_SECONDS) as client:
            with patch.object(courier, "ANSWER_SECONDS", PATIENCE_SECONDS):
                yield Running(whole, files, client)
    finally:
        await whole.stop()


@dataclass(slots=True)
class Started:
    """A service in a process of its own, with its delivery half in another. `log` is what it wrote so far."""

    process: asyncio.subprocess.Process
    files: Files
    log: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        """One that waits for longer than it asks the service to wait."""
        return httpx.AsyncClient(base_url=self.url, timeout=2 * PATIENCE_SECONDS)

    async def logged(self, event: str) -> dict[str, Any]:
        """Reads on until that event was logged."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            said = json.loads(line) if line.startswith(b"{") else {"event": line.decode()}
            self.log.append(said)
            if said["event"] == event:
                return said
        raise AssertionError(f"ended without {event}: {self.log}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Reads its log to the end; its exit code."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log.append(json.loads(line) if line.startswith(b"{") else {"event": line.decode()})
        return await self.process.wait()


@asynccontextmanager
async def started(root: Path, streams: Block, *, within: Sequence[str] = (), **service: Any) -> AsyncIterator[Started]:
    """The service as people run it. A test may kill it; whatever still runs at the end is stopped. `within` is a
    command that becomes the command that follows it.
    """
    files = Files(root, {"delivery": "process", "drain_seconds": PATIENCE_SECONDS, **service})
    files.write(streams)
    command = (*within, sys.executable, "-m", "firehose.cli", "serve", "-c", str(files.config))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    whole = Started(process, files)
    try:
        whole.port = (await whole.logged("service.ready"))["port"]
        yield whole
    finally:
        if process.returncode is None:
            whole.signal(signal.SIGTERM)
            await whole.ended()
