"""One worker process as the service sees it: started, asked, killed; what it prints goes to the log, within bounds."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from firehose import observe
from firehose.contracts import Retry
from firehose.hooks import wire
from firehose.hooks.program import FUNCTION_ERROR, TIMED_OUT, Failed, Program
from firehose.model import Outcome

T = TypeVar("T")
START_SECONDS = 120.0  # to import the user's code: models are loaded there
PRINTED_BYTES = 64 * 1024  # of what one call prints, that is logged
LINE_BYTES = 4096
READ_BYTES = 64 * 1024


@dataclass(slots=True)
class Printed:
    """What a worker prints, as lines of the log: so many bytes for each call, and a word on the rest."""

    labels: Mapping[str, str]
    left: int = PRINTED_BYTES
    cut: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        kept, self.left = data[: self.left], self.left - min(self.left, len(data))
        self.cut += len(data) - len(kept)
        *lines, self._rest = (self._rest + kept).split(b"\n")
        if len(self._rest) > LINE_BYTES or not self.left:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._log(line)

    def next_call(self) -> None:
        if self.cut:
            observe.log.warning("hook.print_cut", **self.labels, bytes=self.cut)
        self.left, self.cut = PRINTED_BYTES, 0

    def ended(self) -> None:
        if self._rest:
            self._log(self._rest)
        self.next_call()

    def _log(self, line: bytes) -> None:
        for start in range(0, len(line), LINE_BYTES):
            observe.log.info(
                "hook.printed", **self.labels, line=line[start : start + LINE_BYTES].decode(errors="replace")
            )


@dataclass(slots=True, eq=False)
class Worker:
    """A process that runs one program. After a call that did not come back it is of no more use, and `gone`."""

    _child: asyncio.subprocess.Process
    _socket: socket.socket
    _marks: mmap.mmap
    _printed: Printed
    _hearing: asyncio.Task[None] | None = None
    gone: bool = field(default=False)

    @staticmethod
    async def start(
        program: Program, memory_mib: int, environment: Mapping[str, str], labels: Mapping[str, str]
    ) -> Worker:
        """A worker that is ready. Raises `Failed` where the program cannot be loaded; `Retry` where we are to blame."""
        ours, theirs = socket.socketpair()
        marks = os.memfd_create("marks")
        try:
            os.ftruncate(marks, mmap.PAGESIZE)
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "firehose.hooks.worker",
                str(theirs.fileno()),
                str(marks),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(theirs.fileno(), marks),
                env=dict(environment),
                start_new_session=True,
            )
            page = mmap.mmap(marks, mmap.PAGESIZE)
        except OSError as error:
            ours.close()
            raise Retry(f"the worker process of {program.name} cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(marks)
        ours.setblocking(False)
        worker = Worker(child, ours, page, Printed(labels))
        worker._hearing = asyncio.create_task(worker._hear())
        order = {"maker": program.maker, "options": program.options, "memory_mib": memory_mib}
        loading = wire.message(wire.LOAD, msgspec.json.encode(order))
        try:
            await worker._call(worker._exchange(loading), START_SECONDS)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def outcome(self, rows: pa.RecordBatch, timeout_seconds: float) -> Outcome:
        """What the program makes of the rows. Raises `Failed`."""
        self._printed.next_call()
        _, parts = await self._call(self._exchange(wire.of_rows(rows)), timeout_seconds)
        return wire.outcome(parts)

    def kill(self) -> None:
        """Ends it and whatever it has started, at once."""
        self.gone = True
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    async def close(self) -> None:
        """Kills it, and waits until it has gone."""
        self.kill()
        await self._child.wait()
        if self._hearing is not None:
            await self._hearing
        self._socket.close()

    async def _call(self, exchange: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        """The exchange, for as long as the process lives and its time lasts. It is killed unless it comes back."""
        back = False
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self._while_it_lives(exchange)
            back = True
            return answer
        except Failed:
            back = not self.gone
            raise
        except TimeoutError:
            raise Failed(TIMED_OUT, f"it took longer than {timeout_seconds:g} seconds", self._at()) from None
        except (ValueError, pa.ArrowException) as error:
            raise Failed(FUNCTION_ERROR, f"its answer cannot be used: {error}", self._at()) from error
        finally:
            if not back:
                self.kill()

    async def _while_it_lives(self, exchange: Coroutine[Any, Any, T]) -> T:
        call, end = asyncio.create_task(exchange), asyncio.create_task(self._child.wait())
        try:
            await asyncio.wait((call, end), return_when=asyncio.FIRST_COMPLETED)
            if call.done() and not isinstance(call.exception(), OSError | EOFError):
                return call.result()
            self.gone = True
            raise Failed(FUNCTION_ERROR, f"its process ended: {_ending(await end)}", self._at())
        finally:
            for task in (call, end):
                task.cancel()
            await asyncio.gather(call, end, return_exceptions=True)

    async def _exchange(self, parts: list[wire.Part]) -> tuple[int, list[pa.Buffer]]:
        loop = asyncio.get_running_loop()
        for part in parts:
            await loop.sock_sendall(self._socket, memoryview(part))
        kind, count = wire.head((await self._read(wire.HEAD.size)).to_pybytes())
        sizes = wire.sizes((await self._read(wire.SIZE.size * count)).to_pybytes())
        answer = [await self._read(size) for size in sizes]
        if kind in (wire.FAILED, wire.SPOILT):
            self.gone = kind == wire.SPOILT
            raise wire.failure(answer[0])
        return kind, answer

    async def _read(self, size: int) -> pa.Buffer:
        content = pa.allocate_buffer(size)
        rest = memoryview(content)
        while rest:
            got = await asyncio.get_running_loop().sock_recv_into(self._socket, rest)
            if not got:
                raise EOFError
            rest = rest[got:]
        return content

    def _at(self) -> int | None:
        (index,) = wire.MARK.unpack_from(self._marks)
        return None if index == wire.NOWHERE else int(index)

    async def _hear(self) -> None:
        assert self._child.stdout is not None
        while data := await self._child.stdout.read(READ_BYTES):
            self._printed.feed(data)
        self._printed.ended()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
