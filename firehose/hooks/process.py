"""One worker process as the service sees it: started, asked, killed.

Whatever becomes of the process, a call ends: with an outcome, or as `Failed`, saying which row it was at where that is
certain.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from firehose.contracts import Retry
from firehose.hooks import wire
from firehose.hooks.printed import Printed
from firehose.hooks.program import FUNCTION_ERROR, TIMED_OUT, Failed, Program
from firehose.model import Outcome

T = TypeVar("T")
START_SECONDS = 120.0  # to import the user's code: models are loaded there
PARTING_SECONDS = 1.0  # between the end of a process and the end of its socket, whichever comes first


@dataclass(slots=True, eq=False)
class Worker:
    """A process that runs one program. After a call that did not come back it is of no more use, and `gone`; the rows
    are `untouched` where they never met the user's code.
    """

    _child: asyncio.subprocess.Process
    _socket: socket.socket
    _shared: mmap.mmap
    _printed: Printed
    _ends: ExitStack  # our ends of all that leads to it
    _ending: asyncio.Task[None] | None = None
    gone: bool = False
    untouched: bool = False

    @staticmethod
    async def start(environment: Mapping[str, str], labels: Mapping[str, str]) -> Worker:
        """A process that waits for its program. Raises `Retry` where there can be none now."""
        with ExitStack() as theirs, ExitStack() as ours:
            try:  # -B: of two versions saved within a second the compiled one may be the older
                socket_end, worker_end = socket.socketpair()
                ours.enter_context(socket_end)
                theirs.enter_context(worker_end)
                alive, _ = _pipe(theirs, ours)
                heard, prints = _pipe(ours, theirs)
                memory = os.memfd_create("hook")
                theirs.callback(os.close, memory)
                os.ftruncate(memory, wire.SHARED_BYTES)
                shared = ours.enter_context(mmap.mmap(memory, wire.SHARED_BYTES))
                child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-B", "-m", "firehose.hooks.worker", str(worker_end.fileno()), str(memory)),
                    stdin=alive,
                    stdout=prints,
                    stderr=prints,
                    pass_fds=(worker_end.fileno(), memory),
                    env=dict(environment),
                    start_new_session=True,
                )
            except OSError as error:
                raise Retry(f"a worker process cannot be started: {error}") from error
            socket_end.setblocking(False)
            printed = Printed(heard, labels)
            ours.callback(printed.close)
            return Worker(child, socket_end, shared, printed, ours.pop_all())

    async def load(self, program: Program, memory_mib: int) -> None:
        """Makes it ready for `outcome`. Raises `Failed` where the program cannot be loaded."""
        order = {"maker": program.maker, "options": program.options, "memory_mib": memory_mib}
        loading = wire.message(wire.LOAD, msgspec.json.encode(order))
        self._mark(wire.NOWHERE)
        await self._call(self._exchange(loading, wire.READY), START_SECONDS)

    async def outcome(self, rows: pa.RecordBatch, timeout_seconds: float, *, searching: bool = False) -> Outcome:
        """What the program makes of the rows. Raises `Failed`. Little is logged of what it prints while `searching`."""
        self._printed.next_call(searching=searching)
        self._mark(wire.UNTOUCHED)
        try:
            return await self._call(self._asked(rows), timeout_seconds)
        finally:
            self.untouched = self._marked() == wire.UNTOUCHED

    def kill(self) -> None:
        """Ends it, and whatever it has started, at once. A call that is under way fails."""
        self.gone = True
        if self._ending is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except OSError:
                pass  # nothing of it is left

    def end(self) -> asyncio.Task[None]:
        """To be called when no call is under way, and then as often as one likes: done when it has gone."""
        self.kill()
        if self._ending is None:
            self._ending = asyncio.create_task(self._ended())
        return self._ending

    async def _ended(self) -> None:
        await self._child.wait()
        self._ends.close()

    async def _call(self, exchange: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        """The exchange, for as long as the process lives and its time lasts. It is killed unless it comes back."""
        looks: list[int] = []
        look = asyncio.get_running_loop().call_later(timeout_seconds / 2, lambda: looks.append(self._marked()))
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
            # A row that has lasted for half of the time hangs; where they are merely slow, the last one is innocent.
            at = self._at() if looks == [self._marked()] else None
            raise Failed(TIMED_OUT, f"it took longer than {timeout_seconds:g} seconds", at) from None
        except ValueError as error:
            raise Failed(FUNCTION_ERROR, f"its answer cannot be used: {error}") from error
        finally:
            look.cancel()
            if not back:
                self.kill()

    async def _while_it_lives(self, exchange: Coroutine[Any, Any, T]) -> T:
        """The exchange's answer, even if it is the process's last. Raises `Failed` where it ends without one."""
        call, end = asyncio.create_task(exchange), asyncio.create_task(self._child.wait())
        try:
            await asyncio.wait((call, end), return_when=asyncio.FIRST_COMPLETED)
            if not _answered(call):
                await asyncio.wait((call, end), timeout=PARTING_SECONDS)
            if _answered(call):
                return call.result()
            self.gone = True
            if end.done():
                raise Failed(FUNCTION_ERROR, f"its process ended: {_ending(end.result())}", self._at())
            # It goes on, and may be behind the row that did it: nobody knows which one that was.
            raise Failed(FUNCTION_ERROR, "it has closed its connection")
        finally:
            for task in (call, end):
                task.cancel()
            await asyncio.gather(call, end, return_exceptions=True)

    async def _asked(self, rows: pa.RecordBatch) -> Outcome:
        return wire.outcome(await self._exchange(wire.of_rows(rows), wire.OUTCOME))

    async def _exchange(self, message: list[wire.Part], wanted: int) -> list[pa.Buffer]:
        told, *parts = message
        with memoryview(self._shared) as shared:
            wire.put(shared, parts)
        await asyncio.get_running_loop().sock_sendall(self._socket, told)
        kind, count = wire.head(await self._read(wire.HEAD.size))
        sizes = wire.sizes(await self._read(wire.SIZE.size * count))
        with memoryview(self._shared) as shared:
            answer = wire.taken(shared, sizes)
        if sum(sizes) > wire.KEPT_BYTES:
            self._shared.madvise(mmap.MADV_REMOVE, wire.PARTS_AT, wire.MOST_BYTES)
        if kind in (wire.FAILED, wire.SPOILT):
            self.gone = kind == wire.SPOILT
            raise wire.failure(answer[0], self._at())
        if kind != wanted:
            raise ValueError(f"a message of kind {kind}")
        return answer

    async def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            got = await asyncio.get_running_loop().sock_recv(self._socket, size - len(content))
            if not got:
                raise EOFError
            content += got
        return content

    def _mark(self, place: int) -> None:
        wire.MARK.pack_into(self._shared, 0, place)

    def _marked(self) -> int:
        return int(wire.MARK.unpack_from(self._shared)[0])

    def _at(self) -> int | None:
        index = self._marked()
        return index if index >= 0 else None


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """The two ends of a new pipe, which are closed with whoever has them."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _answered(call: asyncio.Task[Any]) -> bool:
    return call.done() and not isinstance(call.exception(), OSError | EOFError)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
