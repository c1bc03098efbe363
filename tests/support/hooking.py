"""Hooks put to work in tests: real worker processes, what became of each row, and which processes are left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from batches import rows
from clock import put_forward
from sites import site
from virtual_time import Inline

from firehose.hooks import wire
from firehose.hooks.process import Worker
from firehose.model import Outcome
from transforms.python import Python, PythonOptions

HANDLERS = Path(__file__).parents[1] / "hooks"


@asynccontextmanager
async def hooked(handler: str, **options: Any) -> AsyncIterator[Python]:
    """The hook of that name in tests/hooks/handlers.py, or of any `path`; quick to give up unless told otherwise."""
    given = {"handler": handler, "path": str(HANDLERS), "attempts": 1, "timeout_seconds": 60, **options}
    if ":" not in handler:
        given["handler"] = f"handlers:{handler}"
    hook = Python(PythonOptions.model_validate(given), site(Inline()))
    try:
        yield hook
    finally:
        await hook.close()


async def fates_of(hook: Python, *records: bytes) -> list[str]:
    """What became of each of these records."""
    given = rows(records)
    return list(fates(await hook.outcome(given), len(records)).values())


def fates(outcome: Outcome, count: int) -> Mapping[int, str]:
    """By row: the record that was made (the parts of one after the other), the code why there is none, or `dropped`.

    A row that ends twice, or not at all, is a failure.
    """
    made: dict[int, list[str]] = {}
    for row, record in zip(*(outcome.rows.column(name).to_pylist() for name in ("row", "record")), strict=True):
        made.setdefault(row, []).append(record.decode(errors="replace"))
    ends = [(row, "+".join(records)) for row, records in made.items()]
    ends += [(one["row"], one["code"].removeprefix("Lambda.")) for one in outcome.refused.table.to_pylist()]
    ends += [(row, "dropped") for row in outcome.dropped.to_pylist()]
    assert sorted(row for row, _ in ends) == list(range(count)), ends
    return dict(sorted(ends))


def messages(outcome: Outcome) -> list[str]:
    return [str(message) for message in outcome.refused.table.column("message").to_pylist()]


def told(logs: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [one for one in logs if one["event"] == event]


def overdue(
    monkeypatch: pytest.MonkeyPatch, evil: bytes, *, by_record: bool = True, seconds: float | None = None
) -> None:
    """From now on, the time of a call that has this record (or so many seconds) is over a moment after the process has
    got to it, or to its slice: where it hangs nobody waits, and the time of the others may be long.
    """
    outcome = Worker.outcome

    async def watched(worker: Worker, rows: pa.RecordBatch, timeout_seconds: float, **more: Any) -> Outcome:
        records = rows.column("record").to_pylist()
        if evil not in records:
            return await outcome(worker, rows, timeout_seconds, **more)
        place = records.index(evil) if by_record else wire.NOWHERE
        watching = asyncio.create_task(_over_at(worker, place, seconds or timeout_seconds))
        try:
            return await outcome(worker, rows, timeout_seconds, **more)
        finally:
            watching.cancel()

    monkeypatch.setattr(Worker, "outcome", watched)


async def _over_at(worker: Worker, place: int, seconds: float) -> None:
    while worker._marked() != place:  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.2)  # that it may do what it does
    put_forward(seconds)


def at_first_row(hook: Python) -> bool:
    """Whether a process of it is in the middle of a call, at its first record."""
    return any(not worker.gone and worker._marked() == 0 for worker in hook._alive)


async def until(condition: Callable[[], object]) -> None:
    """Lets the others go on until it holds."""
    for _ in iter(lambda: bool(condition()), True):
        await asyncio.sleep(0)


def gone(pid: int) -> bool:
    """Whether there is no such process any more; one that has ended, and that nobody has asked after, is gone too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def workers_of(pid: int | None = None) -> list[int]:
    """The worker processes that a process (this one) has started and that live."""
    found = []
    for one in Path("/proc").iterdir():
        try:
            parent = int((one / "stat").read_text().rpartition(")")[2].split()[1])
            command = (one / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == (pid or os.getpid()) and b"firehose.hooks.worker" in command and not gone(int(one.name)):
            found.append(int(one.name))
    return found
