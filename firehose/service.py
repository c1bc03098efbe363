"""The service put together: the front with its buffers in this process, the delivery half behind a courier.

It starts by making the data folder whole, follows the configuration and the catalogue while it runs, and ends by
sealing what is open and delivering what it can.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import uvloop

from firehose import allocator, exposition, observe
from firehose import catalogue as catalogues
from firehose import config as configuration
from firehose.blocks import MIB
from firehose.buffer import layout
from firehose.buffer.disk import LocalDisk
from firehose.config import Config
from firehose.contracts import Disk, Lock
from firehose.courier import Asked, Courier, Inline, Process
from firehose.data_stream_service import DataStreamService
from firehose.forked_half import ForkedHalf, forked
from firehose.http.admission import Admission
from firehose.http.app import api
from firehose.http.auth import Keys
from firehose.http.aws_json import BODY_LIMIT_BYTES, AwsJson
from firehose.http.control import Control
from firehose.http.front import Front
from firehose.http.kinesis import is_kinesis
from firehose.http.server import Server, server
from firehose.http.turns import Turns
from firehose.http.wire import Route
from firehose.ingest.dialects import firehose_delivery
from firehose.ingest.dialects.firehose_api import FirehosePuts
from firehose.ingest.dialects.generic import PREFIX, Generic
from firehose.ingest.dialects.replay import Replay, is_replay
from firehose.ingest.sources.running import Sources
from firehose.ingest.sources.site import SourceSite
from firehose.registry import Shared
from firehose.runtime import Runtime
from firehose.standing import StreamStanding, samples, view
from firehose.stream_config import StreamConfig
from firehose.streams import Streams
from firehose.yaml_file import ConfigError

FLUSH_POLL_SECONDS = 0.05
LOCK_SECONDS, LOCK_POLL_SECONDS = 1.0, 0.02  # for a service that was killed: what it just forked holds its lock too
SOURCE_THREADS = 16  # for calls of sources to elsewhere
READY_SECONDS = 1.0  # probes are impatient: whatever the delivery half does, they hear of the disk in time


class StartError(Exception):
    """The service cannot start as things stand; the message says what to do."""


class Service:
    """One data folder, one port. `load` reads the configuration anew at each reload. `first_half` is a delivery half
    that has been forked already.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        disk: Disk,
        runtime: Runtime,
        first_half: ForkedHalf | None = None,
    ) -> None:
        self.config = config
        self._first_half = first_half
        self._load = load
        self._disk = disk
        self._runtime = runtime
        self._data_dir = os.path.abspath(config.service.data_dir)
        self._lock: Lock | None = None
        self._requests = observe.Requests()
        self._admission = Admission(int(config.service.in_flight_mib * MIB))
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._shared = Shared()  # by the sources of this process
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Opens everything, then the port. Raises `StartError`."""
        listening = listen(self.config)
        try:
            async with self._reloading:
                await self.open()
        except BaseException:
            listening.close()
            raise
        assert self._server is not None
        self.port = listening.getsockname()[1]
        self._serving = await self._served(self._server, listening)
        observe.log.info("service.ready", port=self.port, data_dir=self._data_dir, streams=len(self.config.streams))

    async def _served(self, server: Server, listening: socket.socket) -> asyncio.Task[None]:
        """Returns once connections are taken. Raises `StartError` where there are not descriptors enough for that."""
        serving = asyncio.get_running_loop().create_task(server.serve([listening]))
        serving.add_done_callback(lambda _: server.listening.set())
        await server.listening.wait()
        if serving.done() and (error := serving.exception()) is not None:
            listening.close()
            raise StartError(f"service.listen: {error}; allow more descriptors (ulimit -n)") from error
        return serving

    async def open(self) -> None:
        """Takes the data folder, makes it whole, starts the delivery half. Raises `StartError`."""
        try:
            await self._take_data_dir()
            catalogue = catalogues.opened(self._disk, self._data_dir, observe.damaged)
            self._streams = Streams(self._data_dir, self._disk, self._runtime, self.config.service, catalogue)
            self._streams.recover()
            self._streams.follow(self.config)
            self._data_streams = DataStreamService(self._data_dir, self._disk, self._runtime, self.config.service)
            await self._data_streams.open(self.config.data_streams)
            self._courier = self._make_courier()
            self._streams.send = self._courier.send
            await self._courier.start()
            self._source_threads = self._runtime.threads("source", SOURCE_THREADS)
            self._sources = Sources(self._streams.intakes, self._site)
            self._sources.follow(self.config.streams)
        except BaseException as error:
            if self._lock is not None:
                self._lock.close()
            if isinstance(error, OSError):
                raise StartError(f"service.data_dir: {error}; mend it, or choose another folder") from error
            raise
        self._server = server(self._front(), self.config.service)

    def connection(self) -> asyncio.Protocol:
        """What answers one connection, whatever carries its bytes: the port's sockets, or something of the caller's."""
        assert self._server is not None, "open() comes first"
        return self._server.connection()

    async def run(self) -> None:
        """Starts, serves until SIGTERM or SIGINT, follows SIGHUP, then drains."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        allocator.give_back_when_quiet()
        await self.start()
        await ended.wait()
        await self.stop()

    def _hang_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def stop(self) -> None:
        """Answers what is under way, seals what is open, delivers what it can within `drain_seconds`."""
        observe.log.info("service.stopping", drain_seconds=self.config.service.drain_seconds)
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._decode_threads.close()
        await self._sources.close()
        self._source_threads.leave()
        await self._data_streams.close()
        await self._streams.close()
        await self._courier.stop(self.config.service.drain_seconds)
        if self._lock is not None:
            self._lock.close()
        observe.log.info("service.stopped")

    async def reload(self) -> None:
        """Reads the configuration again and follows it; an invalid one changes nothing."""
        try:
            config = self._load()
        except ConfigError as error:
            observe.log.error("config.invalid", problems=[str(problem) for problem in error.problems])
            return
        async with self._reloading:  # and while it starts there is nothing that could follow
            if self._server is not None:
                await self._follow(config)

    async def _follow(self, config: Config) -> None:
        if config.service != self.config.service or config.delivery != self.config.delivery:
            observe.log.warning("config.restart_needed", what="service and delivery options follow at the next start")
        config = replace(config, service=self.config.service, delivery=self.config.delivery)
        try:
            await self._streams.refollow(config)
            await self._data_streams.streams.follow(config.data_streams)
            self._sources.follow(config.streams)
        except OSError as error:  # the catalogue could not be written: all stays as it was
            observe.log.error("config.not_followed", reason=str(error), hint="mend the disk, then reload again")
            return
        self.config = config
        observe.log.info("config.reloaded", streams=len(config.streams))

    # What people and machines ask.

    async def ready(self) -> dict[str, str]:
        checks = {
            "disk": await self._streams.disk_check(),
            "delivery": f"ok, but the delivery half: {trouble}" if (trouble := self._courier.trouble) else "ok",
        }
        for name in self._streams.full():
            checks[f"stream {name}"] = "ok, but its buffer is at limit_gib and answers 503"
        for name, trouble in self._sources.troubles().items():
            checks[f"source of stream {name}"] = f"ok, but {trouble}"
        try:
            async with asyncio.timeout(READY_SECONDS):
                standings = await self.standings()
        except TimeoutError:
            return {**checks, "delivery": "ok, but the delivery half does not answer"}
        for standing in standings:
            for place in standing.places:
                if place.paused:
                    checks[f"stream {standing.name} to {place.destination}"] = f"ok, but paused: {place.paused}"
        return checks

    async def standings(self) -> list[StreamStanding]:
        """Every stream at every destination, accepted and accounted at one and the same moment."""
        before = self._streams.sealed_records()
        said = await self._courier.stats()
        return self._streams.standings(before, said)

    async def streams(self) -> list[dict[str, Any]]:
        now = self._runtime.now_ms()
        return [view(standing, now) for standing in await self.standings()]

    async def data_streams(self) -> list[dict[str, Any]]:
        return self._data_streams.views()

    async def metrics(self) -> bytes:
        standings = await self.standings()
        own: list[observe.Sample] = [
            ("firehose_in_flight_bytes", (), self._admission.in_flight_bytes),
            ("firehose_delivery_up", (), float(not self._courier.trouble)),
            ("firehose_delivery_restarts", (), self._courier.restarts),
            ("firehose_disk_failures", (), self._streams.disk_failures),
            ("firehose_damaged_files", (), self._streams.damaged_files),
        ]
        if self._server is not None:
            own.append(("firehose_connections", (), len(self._server.server_state.connections)))
        try:
            own.append(("firehose_disk_free_bytes", (), self._disk.free_bytes(self._data_dir)))
        except OSError:
            pass  # /readyz says so; the rest is worth having all the more
        now = self._runtime.now_ms()
        told = (
            *self._requests.samples(),
            *samples(standings, now),
            *self._data_streams.samples(),
            *self._sources.samples(),
        )
        return exposition.render([*own, *told])

    async def flush(self, stream: str, wait_seconds: float) -> dict[str, Any]:
        records = await self._streams.seal(stream)
        self._courier.send({"do": "flush", "stream": stream})
        delivered = await self._delivered(stream, wait_seconds) if wait_seconds else None
        return {"stream": stream, "records": records, "delivered": delivered}

    async def _delivered(self, stream: str, wait_seconds: float) -> bool:
        """Waits until all that was sealed by now has found its end at every destination."""
        goal, restarts = self._streams.sealed_records(), self._courier.restarts
        try:
            async with asyncio.timeout(wait_seconds):
                # The answer is in another process: there is nothing here to wait for.
                while not self._streams.reached(stream, goal, await self._courier.stats()):
                    if self._courier.restarts > restarts:  # whoever was told is gone, and with it what it was to cut
                        restarts = self._courier.restarts
                        self._courier.send({"do": "flush", "stream": stream})
                    await asyncio.sleep(FLUSH_POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def release(self, segment: str) -> list[str]:
        parts = segment.split("/")
        if len(parts) != 3 or not parts[2].isdigit():
            raise ValueError("name the segment as stream/lane/first, as firehose buffer ls prints it")
        return await self._courier.release((parts[0], parts[1], int(parts[2])))

    # How it is put together.

    async def _take_data_dir(self) -> None:
        try:
            self._disk.make_folder(self._data_dir)
            self._disk.make_folder(layout.buffer_folder(self._data_dir))
            self._sync_parent()
            self._lock = await self._locked(f"{self._data_dir}/service.lock")
        except OSError as error:
            raise StartError(
                f"service.data_dir: {self._data_dir} cannot be written: {error.strerror}; "
                "make it writable, or choose another folder"
            ) from error
        if self._lock is None:
            raise StartError(
                f"service.data_dir: {self._data_dir} is in use by another process; stop it, or choose another folder"
            )

    async def _locked(self, path: str) -> Lock | None:
        """None where another has it, and keeps it."""
        until = self._runtime.monotonic() + LOCK_SECONDS
        while (lock := self._disk.lock(path)) is None and self._runtime.monotonic() < until:  # noqa: ASYNC110  # silent
            await asyncio.sleep(LOCK_POLL_SECONDS)
        return lock

    def _sync_parent(self) -> None:
        """The folder may have been made by a start that was killed before its name was durable."""
        try:
            self._disk.sync_folder(os.path.dirname(self._data_dir))
        except PermissionError:
            pass  # a parent that we may not even read was not made by us

    def _make_courier(self) -> Courier:
        asked = Asked(self._streams.removed, self._streams.check_removed)
        service = self.config.service.model_copy(update={"data_dir": self._data_dir})
        config = Config(self.config.name, service, self.config.delivery, self.config.streams, {})
        if service.delivery == "inline":
            return Inline(config, self._disk, self._runtime, asked)
        return Process(config, asked, self._first_half)

    def _site(self, stream: StreamConfig) -> SourceSite:
        """Where the stream's source is put to work."""
        return SourceSite(
            stream.name,
            any(block.calls() for block in stream.transforms),
            self.config.service.region,
            self.config.service.account_id,
            self._data_streams.streams,
            self._source_threads,
            self._runtime,
            self._shared,
        )

    def _front(self) -> Front:
        service = self.config.service
        keys = Keys([key.get_secret_value().encode() for key in service.api_keys])
        self._decode_threads = self._runtime.threads("decode", service.decode_threads)
        generic = Generic(
            self._streams.intakes,
            self._decode_threads,
            keys.admit,
            self._admission,
            int(service.body_limit_mib * MIB),
            int(service.decoded_limit_mib * MIB),
        ).route()
        replay = Replay(
            self._streams.intakes, self._decode_threads, keys.admit, int(service.body_limit_mib * MIB)
        ).route()
        deliveries = firehose_delivery.Deliveries(
            self._streams.intakes,
            self._decode_threads,
            keys.admit,
            self._admission,
            self._runtime.now_ms,
            int(service.request_id_hours * 3_600_000),
            int(service.body_limit_mib * MIB),
            int(service.decoded_limit_mib * MIB),
        ).route()
        puts = FirehosePuts(self._streams.intakes, service.account_id)
        control = Control(
            self._streams.entries, self._streams.configs, region=service.region, account_id=service.account_id
        )
        aws = AwsJson(
            {**puts.operations(), **control.operations()},
            self._runtime.request_id,
            min(int(service.body_limit_mib * MIB), BODY_LIMIT_BYTES),
        ).route()

        kinesis = self._data_streams.api()
        turns = Turns(service.queue_seconds)

        def routes(method: str, path: str, headers: Mapping[bytes, bytes]) -> tuple[str, Route] | None:
            if is_kinesis(method, path, headers):
                return "kinesis", kinesis.route(headers)
            if path.startswith(PREFIX):
                return "ingest", generic
            if method == "POST" and path == "/":
                return "aws", aws
            if path.startswith(firehose_delivery.PREFIX):
                return "firehose", deliveries
            if is_replay(path):
                return "replay", replay
            return None

        return Front(routes, api(self, keys), self._admission, service.body_seconds, self._requests, turns)


def listen(config: Config) -> socket.socket:
    """The listening socket. Raises `StartError` where the port is taken or the address is not ours."""
    host, port = config.service.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"service.listen: cannot listen on {host}:{port}: {reason}") from error
    listening.setblocking(False)
    return listening


def serve(config: Config, load: Callable[[], Config]) -> None:
    """Runs the service until it is told to stop. Raises `StartError`, `NewerFormat`."""
    observe.configure(config.service.log_format, config.service.log_level)
    warn_of_exposure(config)
    allocator.keep_what_is_loaded()
    half = forked(deliver) if config.service.delivery == "process" else None
    try:
        uvloop.run(Service(config, load, LocalDisk(), Runtime(), half).run())
    finally:
        if half is not None:
            half.abandon()


def deliver() -> None:
    """The life of the delivery half, which loads by itself what it needs beyond all this."""
    from firehose import delivery_half

    delivery_half.live()


def warn_of_exposure(config: Config) -> None:
    host, _ = config.service.address
    if not config.service.api_keys and host not in ("127.0.0.1", "localhost", "::1"):
        observe.log.warning(
            "service.open_to_all", listen=config.service.listen, hint="set service.api_keys, or listen on 127.0.0.1"
        )
    for problem in configuration.shared_places(config):
        observe.log.warning("config.shared_place", what=problem)
