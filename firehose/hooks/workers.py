"""The worker processes of one hook, and what becomes of rows at which the user's code fails.

A slice that fails leaves the regular workers to the others: it is tried again, and then taken apart, on a spare one, so
that only the records whose fault it is are refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pyarrow as pa

from firehose import config, observe
from firehose.contracts import Refused, Retry
from firehose.hooks import lambda_style
from firehose.hooks.options import WorkerOptions
from firehose.hooks.process import Worker
from firehose.hooks.program import PAYLOAD_BYTES, PROCESSING_FAILED, Failed, Program
from firehose.model import Outcome, Rejections
from firehose.registry import Site
from firehose.rows import cut, joined

BACKOFF_SECONDS = 0.1  # before the second attempt, then twice as long each time
BACKOFF_LIMIT_SECONDS = 5.0
IDLE_SECONDS = 300.0  # a process that nobody has needed for so long ends

Suspect = tuple[pa.RecordBatch, Failed | None]  # rows, and how they have failed as a whole, if they have been tried


class Workers:
    """A `Hook` whose program runs in `options.workers` processes, started when they are first needed."""

    def __init__(self, program: Program, options: WorkerOptions, site: Site) -> None:
        self.name = program.name
        self.payload_bytes = options.buffering.size_bytes
        self.at_once = options.workers
        self._program = program
        self._options = options
        self._site = site
        self._environment = {**config.worker_environment(), **options.environment}
        self._labels = {"stream": site.stream, "hook": program.name}
        self._turns = asyncio.Semaphore(options.workers)
        self._spare_turn = asyncio.Lock()
        self._idle: list[Worker] = []
        self._alive: set[Worker] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._attempts = 0  # under way
        self._quiet = asyncio.Event()  # there are none
        self._quiet.set()
        self._closed = False

    async def check(self) -> None:
        """Loads the program in a process, which ends at once: a service with many hooks starts, and few are in use."""
        if self._idle:
            return
        with self._under_way():
            try:
                worker = await self._started()
            except Failed as failed:
                raise Refused(f"{self._program.name}: {failed.message}") from failed
            await asyncio.shield(self._end(worker))

    async def outcome(self, rows: pa.RecordBatch) -> Outcome:
        pieces = [
            part for piece in _pieces(rows, self.payload_bytes) for part in lambda_style.cuts(piece, PAYLOAD_BYTES)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._piece(piece)) for piece in pieces]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return joined(rows, [task.result() for task in tasks])

    async def close(self) -> None:
        """Kills all processes. Whoever waits for an outcome is told to ask again."""
        self._closed = True
        if self._rest is not None:
            self._rest.cancel()
        for worker in self._alive:
            worker.kill()
        await self._quiet.wait()  # an attempt that was just starting a process ends it
        await asyncio.gather(*map(self._end, self._alive))

    async def _piece(self, rows: pa.RecordBatch) -> Outcome:
        try:
            async with self._turns:
                return await self._attempt(rows)
        except Failed as failed:
            self._tell(rows, failed, attempt=1)
            async with self._spare_turn:
                return await self._again(rows, failed)

    async def _again(self, rows: pa.RecordBatch, failed: Failed) -> Outcome:
        """The attempts after the first; after the last of them the rows are taken apart."""
        for attempt in range(2, self._options.attempts + 1):
            await asyncio.sleep(min(BACKOFF_SECONDS * 2 ** (attempt - 2), BACKOFF_LIMIT_SECONDS))
            try:
                return await self._attempt(rows)
            except Failed as again:
                failed = again
                self._tell(rows, failed, attempt)
        if failed.final:
            return self._refused(rows, failed)
        return joined(rows, await self._isolated(rows, failed))

    async def _isolated(self, rows: pa.RecordBatch, failed: Failed) -> list[Outcome]:
        """Outcomes of the pieces of failing rows, in order: each piece is tried once, and taken apart where it fails.
        What is not cleared in time is refused as one.
        """
        suspects, cleared = deque[Suspect]([(rows, failed)]), list[Outcome]()
        try:
            async with asyncio.timeout(self._options.isolate_seconds):
                while suspects:
                    await self._look_at_the_first(suspects, cleared)
        except TimeoutError:
            cleared.extend(self._refused(rest, why or failed) for rest, why in suspects)
        return cleared

    async def _look_at_the_first(self, suspects: deque[Suspect], cleared: list[Outcome]) -> None:
        rows, failed = suspects[0]
        if failed is None:
            try:
                outcome = await self._attempt(rows, searching=True)
            except Failed as again:
                suspects[0] = (rows, again)
                return
        elif failed.final or not (parts := list(_apart(rows, failed))):
            outcome = self._refused(rows, failed)
        else:
            suspects.popleft()
            suspects.extendleft(reversed(parts))
            return
        suspects.popleft()
        cleared.append(outcome)

    async def _attempt(self, rows: pa.RecordBatch, *, searching: bool = False) -> Outcome:
        """One call of the user's code, on an idle process or a new one. Raises `Failed`; `Retry` once closed."""
        with self._under_way():
            while self._idle:
                worker = self._idle.pop()
                try:
                    return await self._asked(worker, rows, searching)
                except Failed as failed:
                    if not worker.untouched:
                        raise
                    observe.log.warning("hook.ended_idle", **self._labels, reason=str(failed))
            return await self._asked(await self._started(), rows, searching)

    async def _asked(self, worker: Worker, rows: pa.RecordBatch, searching: bool) -> Outcome:
        try:
            return await worker.outcome(rows, self._options.timeout_seconds, searching=searching)
        except Failed:
            self._make_sure_it_is_open()
            raise
        finally:
            await self._put_back(worker)

    async def _started(self) -> Worker:
        self._make_sure_it_is_open()
        worker = await Worker.start(self._environment, self._labels)
        self._alive.add(worker)
        try:
            self._make_sure_it_is_open()
            await worker.load(self._program, self._options.memory_mib)
        except BaseException as error:
            self._end(worker)
            if isinstance(error, Failed):
                self._make_sure_it_is_open()
            raise
        return worker

    async def _put_back(self, worker: Worker) -> None:
        if worker.gone or self._closed or len(self._idle) >= self._options.workers:
            await asyncio.shield(self._end(worker))
            return
        self._idle.append(worker)
        if self._rest is not None:
            self._rest.cancel()
        self._rest = self._site.runtime.after(IDLE_SECONDS, self._end_the_idle)

    def _end_the_idle(self) -> None:
        while self._idle:
            self._end(self._idle.pop())

    def _end(self, worker: Worker) -> asyncio.Task[None]:
        """Killed at once; done when it has gone."""
        ending = worker.end()
        ending.add_done_callback(lambda _: self._alive.discard(worker))
        return ending

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._attempts += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._attempts -= 1
            if not self._attempts:
                self._quiet.set()

    def _make_sure_it_is_open(self) -> None:
        if self._closed:
            raise Retry(f"the hook {self._program.name} was loaded anew")

    def _refused(self, rows: pa.RecordBatch, failed: Failed) -> Outcome:
        why = (failed.code, failed.message, self._options.attempts, self._program.name)
        return Outcome(rows.slice(0, 0), Rejections.of(rows, PROCESSING_FAILED, *why))

    def _tell(self, rows: pa.RecordBatch, failed: Failed, attempt: int) -> None:
        observe.log.warning(
            "hook.failed", **self._labels, attempt=attempt, records=rows.num_rows, code=failed.code, reason=str(failed)
        )


def _pieces(rows: pa.RecordBatch, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """Cut between records, into pieces of about equal length and of that many bytes on average."""
    count = max(1, -(-rows.column("record").nbytes // limit_bytes))
    step, start = max(1, -(-rows.num_rows // count)), 0
    while start < rows.num_rows:
        end = cut(rows, min(start + step, rows.num_rows))
        yield rows.slice(start, end - start)
        start = end


def _apart(rows: pa.RecordBatch, failed: Failed) -> Iterator[Suspect]:
    """The record whose fault it is and its neighbours, or two halves; nothing where there is one record only."""
    if failed.at is not None and failed.at < rows.num_rows:
        begin = _begin(rows, failed.at)
        places = [0, begin, cut(rows, failed.at + 1), rows.num_rows]
    else:
        begin = -1
        places = [0, _begin(rows, rows.num_rows // 2) or cut(rows, rows.num_rows // 2 + 1), rows.num_rows]
    pieces = [(start, end) for start, end in pairwise(places) if end > start]
    if len(pieces) > 1:
        for start, end in pieces:
            yield rows.slice(start, end - start), failed if start == begin else None


def _begin(rows: pa.RecordBatch, at: int) -> int:
    """Where the parts of the record at `at` begin."""
    ordinals = rows.column("row")
    while at > 0 and ordinals[at - 1] == ordinals[at]:
        at -= 1
    return at
