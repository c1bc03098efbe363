"""What a hook costs beside the user's own code, for each shape it may have, and what a second worker brings.

No service runs: slices of one payload meet a hook with real worker processes. The user's code is floor: the same
function, called in a loop, is taken off.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import runpy
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import uvloop
from batches import rows
from bench import measuring
from bench.checking import Wrong
from bench.work import Figures, Goal, Scale, Work
from hooking import HANDLERS, hooked

RECORDS = 2000  # of 500 bytes: a payload of nearly 1 MiB
RECORD_BYTES = 500


def payload() -> pa.RecordBatch:
    return rows([os.urandom(RECORD_BYTES // 2).hex().encode() for _ in range(RECORDS)])


def beside_the_users_code(scale: Scale, *, style: str) -> Figures:
    """CPU of both processes, less what the function takes by itself."""
    slices = scale.of(600, 20)
    given = payload()
    cpu = uvloop.run(_passed(f"same_{style}", given, slices))
    records = slices * RECORDS
    bare = _called(style, given, slices // 10) * 10
    return {
        "cpu_us_per_record": (cpu - bare) / records * 1e6,
        "cpu_s_per_gb": (cpu - bare) / (records * RECORD_BYTES) * 1e9,
        "floor_cpu_us_per_record": bare / records * 1e6,
    }


async def _passed(handler: str, given: pa.RecordBatch, slices: int) -> float:
    """CPU seconds for so many slices, the start of the worker left out."""
    async with hooked(handler) as hook:
        await hook.outcome(given)
        before = measuring.cpu_seconds(os.getpid())
        for _ in range(slices):
            outcome = await hook.outcome(given)
        cpu = measuring.cpu_seconds(os.getpid()) - before
    if not outcome.rows.equals(given):
        raise Wrong(f"{handler} changed its records")
    return cpu


def _called(style: str, given: pa.RecordBatch, slices: int) -> float:
    """CPU seconds of the function itself, on what it is given."""
    function: Callable[..., Any] = runpy.run_path(str(HANDLERS / "handlers.py"))[f"same_{style}"]
    arguments = list(_arguments(style, given))
    began = time.process_time()
    for _ in range(slices):
        for one in arguments:
            function(*one)
    return time.process_time() - began


def _arguments(style: str, given: pa.RecordBatch) -> Sequence[tuple[Any, ...]]:
    records = given.column("record").to_pylist()
    if style == "record":
        return [(record,) for record in records]
    if style == "batch":
        return [(pa.Table.from_batches([given]),)]
    data = [{"recordId": str(n), "data": base64.b64encode(one).decode()} for n, one in enumerate(records)]
    return [(json.loads(json.dumps({"records": data})), None)]


def side_by_side(scale: Scale) -> Figures:
    """The same slices with one worker and with two."""
    slices = scale.of(64, 8)
    one, two = (uvloop.run(_rate(workers, slices)) for workers in (1, 2))
    return {"speedup": two / one, "records_per_s": two, "floor_records_per_s": one}


async def _rate(workers: int, slices: int) -> float:
    """Records a second of a hook that keeps its workers busy."""
    given = payload()
    async with hooked("compress_record", workers=workers) as hook:
        await asyncio.gather(*(hook.outcome(given) for _ in range(workers)))
        began = time.perf_counter()
        await asyncio.gather(*(hook.outcome(given) for _ in range(slices)))
        return slices * RECORDS / (time.perf_counter() - began)


def _cost(style: str, about: str, *goals: Goal) -> Work:
    return Work(f"hook-{style}", f"{about}, beside the user's code", goals, partial(beside_the_users_code, style=style))


US_PER_RECORD = partial(Goal, "cpu_us_per_record", "CPU us/record", "<=", floor="floor_cpu_us_per_record")
WORKS = (
    _cost("lambda", "a hook as an AWS Lambda, records of 500 bytes", US_PER_RECORD(9)),
    _cost("record", "a function of a record, records of 500 bytes", US_PER_RECORD(4)),
    _cost("batch", "a function of an Arrow table", Goal("cpu_s_per_gb", "CPU s/GB", "<=", 1.5)),
    Work(
        "hook-workers",
        "a hook that is busy, with one worker and with two",
        (Goal("speedup", "times as fast with two", ">=", 1.6),),
        side_by_side,
    ),
)
