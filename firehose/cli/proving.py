"""Runs cases of transforms as the delivery half would, and finds how what came out differs from what was expected.

The transforms are real: hooks run in their worker processes, with their bounds. Nothing is stored, sent or listened on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from firehose import observe, registry
from firehose.buffer.disk import LocalDisk
from firehose.cli.cases import Case
from firehose.cli.differences import Difference, differences
from firehose.config import Config, ServiceOptions
from firehose.contracts import Hook, Retry, Transform
from firehose.delivery.outcomes import awaited
from firehose.model import ROW_SCHEMA, Batch, Outcome, Segment
from firehose.rows import joined
from firehose.runtime import Runtime, utc
from firehose.stream_config import StreamConfig

THREADS = 2
LINES = 100  # of what a case's hooks print


@dataclass(slots=True)
class Result:
    """What came of a case. `broken` says why nothing did, `log` what its hooks printed and how they failed."""

    case: Case
    seconds: float = 0.0
    differences: tuple[Difference, ...] = ()
    broken: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.differences and not self.broken

    def to_json(self) -> dict[str, Any]:
        told = [
            {"at": one.place, "record": one.record, "expected": _text(one.expected), "came_out": _text(one.came)}
            for one in self.differences
        ]
        about = {"stream": self.case.stream, "case": self.case.name, "ok": self.ok, "seconds": round(self.seconds, 3)}
        return {**about, "error": self.broken, "differences": told, "log": self.log}


async def results(
    config: Config, cases: Sequence[Case], timeout_seconds: float, tell: Callable[[Result], None]
) -> list[Result]:
    """One after the other, each told of as it ends: cases of a stream share its worker processes, and no others."""
    found = []
    progress = Console(stderr=True)
    for name, of_stream in groupby(cases, lambda case: case.stream):
        chain = Chain(config.streams[name], config.service, Runtime())
        try:
            for case in of_stream:
                with progress.status(Text(f"{name}: {case.name}")):
                    found.append(await _result(case, chain, timeout_seconds))
                tell(found[-1])
        finally:
            await chain.close()
    return found


async def _result(case: Case, chain: Chain, timeout_seconds: float) -> Result:
    runtime = Runtime()
    result, began = Result(case), runtime.monotonic()
    observe.listen(lambda event, said: _keep(result.log, event, said))
    try:
        result.differences = tuple(differences(case, await chain.outcome(case, timeout_seconds)))
    except Broken as broken:
        result.broken = str(broken)
    result.seconds = runtime.monotonic() - began
    return result


def _keep(log: list[str], event: str, said: Mapping[str, Any]) -> None:
    """What a hook prints, and how it fails, in a line."""
    if event == "hook.printed":
        line = str(said["line"])
    elif event == "hook.failed":
        line = f"attempt {said['attempt']} failed: {said['reason']}"
    else:
        line = f"{event}: {', '.join(f'{key} {value}' for key, value in said.items())}"
    if len(log) < LINES:
        log.append(line)
    elif len(log) == LINES:
        log.append("... and more")


class Broken(Exception):
    """The transforms made nothing of a case, for a reason that no record is to blame for."""


class Chain:
    """The transforms of one stream, at work. One for all of its cases: user code keeps its state, as in the service."""

    def __init__(self, stream: StreamConfig, service: ServiceOptions, runtime: Runtime) -> None:
        self._threads = runtime.threads("test", THREADS)
        destination = next(iter(stream.destinations))
        doors = (LocalDisk(), self._threads, runtime)
        site = registry.Site(stream.name, destination, "data", service.region, *doors, account_id=service.account_id)
        self._steps: list[Transform | Hook] = []
        self._broken = ""
        self._stuck = False
        try:
            for block in stream.transforms:
                self._steps.append(registry.transform(block, site))
        except Exception as error:  # whatever a plug-in raises that cannot use its options
            self._broken = f"the transform {block.type} cannot be used: {error}"

    async def outcome(self, case: Case, timeout_seconds: float) -> Outcome:
        """What becomes of the case's records. Raises `Broken`."""
        if self._broken:
            raise Broken(self._broken)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._outcome(case)
        except Retry as error:
            raise Broken(error.reason) from error
        except TimeoutError:
            self._stuck = True
            raise Broken(f"it took longer than {timeout_seconds:g} seconds") from None
        except Exception as error:
            raise Broken(f"a bug in a transform: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        for step in self._steps:
            if isinstance(step, Hook):
                await step.close()
        if not self._stuck:  # a thread that is still at work may never end
            self._threads.close()

    async def _outcome(self, case: Case) -> Outcome:
        rows = _rows(case)
        size_bytes = sum(len(given.record) for given in case.given)
        segment = Segment(case.stream, "test", 0, rows.num_rows, size_bytes, utc(case.arrival_ms), 1)
        made = awaited(Batch(segment, lambda: iter([rows])), self._steps, self._threads, _ask)
        async with aclosing(made) as outcomes:
            return joined(rows, [outcome async for outcome in outcomes])


async def _ask(hook: Hook, rows: pa.RecordBatch) -> Outcome:
    return await hook.outcome(rows)


def _rows(case: Case) -> pa.RecordBatch:
    count = len(case.given)
    columns = {
        "record": pa.array([given.record for given in case.given], pa.binary()),
        "row": pa.array(range(count), pa.int32()),
        "part": pa.repeat(pa.scalar(0, pa.int32()), count),
        "arrival_ms": pa.repeat(pa.scalar(case.arrival_ms, pa.int64()), count),
    }
    schema = ROW_SCHEMA
    if any(given.meta is not None for given in case.given):
        columns["meta"] = pa.array([given.meta for given in case.given], pa.string())
        schema = schema.append(pa.field("meta", pa.string()))
    return pa.record_batch(columns, schema=schema)


def _text(record: bytes | None) -> str | None:
    return None if record is None else record.decode("utf-8", "backslashreplace")
