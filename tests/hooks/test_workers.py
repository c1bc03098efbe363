"""Rows at which the user's code fails are tried again and taken apart; nobody else is refused, and nobody waits."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest
from batches import rows
from clock import put_forward
from hooking import at_first_row, fates, fates_of, gone, hooked, messages, overdue, told, until, workers_of
from programs import wait_for
from structlog.testing import capture_logs

from firehose.contracts import Refused, Retry
from firehose.hooks import workers
from firehose.rows import spread

REFUSED = "FunctionError"
STYLES = ("record", "lambda", "batch")


@pytest.fixture(autouse=True)
def no_backing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BACKOFF_SECONDS", 0.001)


async def so_many(turns: int | None) -> None:
    """So many turns of the loop; without a number as many as it takes until a worker is there."""
    for _ in range(turns or 0):
        await asyncio.sleep(0)
    if turns is None:
        await until(workers_of)


# Attempts


@pytest.mark.parametrize("attempts", [1, 3])
async def test_attempts_at_a_slice(tmp_path: Path, attempts: int) -> None:
    """A slice that fails is tried so many times as a whole; then each half once, and so on down to the one at fault."""
    calls = tmp_path / "calls"
    records = [str(calls).encode()] * 3 + [f"{calls} raise".encode()]
    async with hooked("count_slices", attempts=attempts) as hook:
        outcome = await hook.outcome(rows(records))
    assert list(fates(outcome, 4).values())[3] == REFUSED
    assert outcome.refused.table.column("attempts").to_pylist() == [attempts]
    whole = "4 " * 4 * attempts
    assert calls.read_text() == whole + "2 2 " + "2 2 " + "1 " + "1 "


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize("evil", ["raise", "os._exit"])
async def test_attempts_at_a_record(tmp_path: Path, attempts: int, evil: str) -> None:
    """The record at fault meets a function of a record so many times, however it fails, and is not met again; what
    came before it is met again where the process ended with it.
    """
    before, bad, behind = tmp_path / "before", tmp_path / "bad", tmp_path / "behind"
    async with hooked("count_calls", attempts=attempts) as hook:
        found = await fates_of(hook, bytes(before), f"{bad} {evil}".encode(), bytes(behind))
    assert found == ["counted", REFUSED, "counted"]
    assert len(bad.read_text().split()) == attempts
    assert len(before.read_text().split()) == (1 if evil == "raise" else attempts + 1)
    assert len(behind.read_text().split()) == 1


async def test_no_code_at_all() -> None:
    """Code that cannot be loaded is tried as often, and refuses all records at once: halves would fare no better."""
    with capture_logs() as logs:
        async with hooked("nowhere:f", attempts=3) as hook:
            outcome = await hook.outcome(rows([b"a"] * 8))
    assert set(fates(outcome, 8).values()) == {"ResourceNotFound"}
    assert [one["attempt"] for one in told(logs, "hook.failed")] == [1, 2, 3]


async def test_a_hook_that_recovers(tmp_path: Path) -> None:
    """Rows that succeed at a later attempt are delivered as if nothing had been."""
    done = str(tmp_path / "done")
    code = f"import os\ndone = {done!r}\ndef f(record):\n    os.path.exists(done) or os.mkdir(done) or os._exit(1)\n"
    (tmp_path / "once.py").write_text(code + "    return b'x'\n")
    async with hooked("once:f", path=str(tmp_path), attempts=2) as hook:
        assert await fates_of(hook, b"a", b"b") == ["x", "x"]


# Only the culprit


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("bad", [(0,), (3,), (6,), (0, 6), (2, 3, 5)], ids=str)
async def test_only_the_culprits_are_refused(style: str, bad: tuple[int, ...]) -> None:
    """First, in the middle, last or several: those that fail are refused, the others are delivered, in order."""
    records = [b"raise" if n in bad else b"r%d" % n for n in range(7)]
    async with hooked(f"evil_{style}") as hook:
        outcome = await hook.outcome(rows(records))
    assert fates(outcome, 7) == {n: REFUSED if n in bad else f"R{n}" for n in range(7)}
    assert outcome.rows.column("row").to_pylist() == [n for n in range(7) if n not in bad]
    assert outcome.refused.table.column("record").to_pylist() == [b"raise"] * len(bad)


@pytest.mark.parametrize("style", STYLES)
async def test_only_the_culprits_of_crashes(style: str) -> None:
    """So it is where they end the process."""
    records = [b"os._exit" if n in (1, 4) else b"r%d" % n for n in range(6)]
    async with hooked(f"evil_{style}") as hook:
        assert await fates_of(hook, *records) == [REFUSED if n in (1, 4) else f"R{n}" for n in range(6)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("evil", [b"raise", b"os._exit"])
async def test_parts_of_a_record_stay_together(style: str, evil: bytes) -> None:
    """What was one record before an earlier transform split it is never cut in two; each part keeps its number."""
    parts = [b"a", b"b1", evil, b"b3", b"c1", b"c2"]
    given = spread(rows([b"a", b"b", b"c"]), [0, 1, 1, 1, 2, 2], pa.array(parts, pa.binary()))
    async with hooked(f"evil_{style}") as hook:
        outcome = await hook.outcome(given)
    made = list(zip(*(outcome.rows.column(name).to_pylist() for name in ("row", "part", "record")), strict=True))
    assert made[0] == (0, 0, b"A")
    assert made[-2:] == [(2, 0, b"C1"), (2, 1, b"C2")]
    ended = outcome.refused.table.column("row").to_pylist()
    if evil == b"raise" and style == "record":  # its part alone
        assert (made[1:-2], ended) == ([(1, 0, b"B1"), (1, 2, b"B3")], [1])
    else:
        assert (made[1:-2], ended) == ([], [1] * 3)


async def test_time_for_isolation_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not cleared within `isolate_seconds` is refused as one; what was cleared stays."""
    records = [b"a", b"b", b"hang", b"c", b"hang", b"d"]
    overdue(monkeypatch, b"hang")
    async with hooked("evil_record", isolate_seconds=30) as hook:
        outcome = await hook.outcome(rows(records))
    found = list(fates(outcome, 6).values())
    assert found[:3] == ["A", "B", "FunctionTimedOut"]
    assert set(found[3:]) == {"FunctionTimedOut"}


async def test_no_time_for_isolation() -> None:
    """Without time for it, a slice that fails is refused as one."""
    async with hooked("evil_lambda", isolate_seconds=0) as hook:
        outcome = await hook.outcome(rows([b"a", b"raise"]))
    assert set(fates(outcome, 2).values()) == {REFUSED}
    assert set(messages(outcome)) == {"ZeroDivisionError: division by zero"}


# Side by side


async def test_a_failing_slice_holds_nobody_up() -> None:
    """While one slice hangs again and again, the only worker serves the others."""
    async with hooked("evil_record", timeout_seconds=60, attempts=2) as hook:
        hanging = asyncio.create_task(hook.outcome(rows([b"hang"])))
        with capture_logs() as logs:
            await until(lambda: at_first_row(hook))
            put_forward(60)
            await until(lambda: told(logs, "hook.failed"))
        await until(lambda: at_first_row(hook))
        for _ in range(5):
            assert await fates_of(hook, b"a") == ["A"]
        assert not hanging.done()
        put_forward(60)
        assert fates(await hanging, 1) == {0: "FunctionTimedOut"}


async def test_workers_run_side_by_side(tmp_path: Path) -> None:
    """Two workers are two processes at work at once, and no more than two."""
    async with hooked("meet_each_other", workers=2) as hook:
        assert hook.at_once == 2
        found = await asyncio.gather(*(fates_of(hook, bytes(tmp_path)) for _ in range(6)))
    assert found == [["met"]] * 6
    assert len(os.listdir(tmp_path)) == 2


async def test_pieces_keep_their_order() -> None:
    """A slice that is cut for several workers comes back in order, each record once."""
    records = [b"%06d" % n + b"." * 10_000 for n in range(100)]
    async with hooked("echo", workers=2, buffering={"size_mib": 0.2}) as hook:
        outcome = await hook.outcome(rows(records))
    assert outcome.rows.column("record").to_pylist() == records
    assert outcome.rows.column("row").to_pylist() == list(range(100))


async def test_an_empty_slice() -> None:
    """No rows need no process."""
    async with hooked("echo") as hook:
        assert fates(await hook.outcome(rows([])), 0) == {}
        assert workers_of() == []


# Processes that end by themselves, or by others


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_while_idle(blow: signal.Signals) -> None:
    """A worker that is killed while nobody needs it costs no slice an attempt, and no record."""
    with capture_logs() as logs:
        async with hooked("evil_record") as hook:
            for _ in range(3):
                assert await fates_of(hook, b"a") == ["A"]
                (pid,) = workers_of()
                os.kill(pid, blow)
    assert [one["event"] for one in logs if one["event"].startswith("hook")] == ["hook.ended_idle"] * 2


async def test_ended_by_itself_while_idle(tmp_path: Path) -> None:
    """So it is where the user's own threads end it between two calls, at whatever moment."""
    sign = tmp_path / "sign"
    async with hooked("fresh") as hook:
        for _ in range(4):
            sign.touch()
            assert await fates_of(hook, bytes(sign)) == [str(sign)]
            (pid,) = workers_of()
            sign.unlink()
            wait_for(lambda pid=pid: gone(pid), "the worker to end")  # type: ignore[misc]


async def test_killed_at_work(tmp_path: Path) -> None:
    """A worker that is killed at work costs its slice one attempt."""
    sign = tmp_path / "sign"
    with capture_logs() as logs:
        async with hooked("wait_for_the_sign", attempts=2) as hook:
            waiting = asyncio.create_task(fates_of(hook, bytes(sign)))
            await until(sign.exists)
            (pid,) = workers_of()
            sign.unlink()
            sign.mkdir()  # the file cannot be written now
            os.kill(pid, signal.SIGKILL)
            await until(lambda: told(logs, "hook.failed"))
            sign.rmdir()
            await until(sign.exists)
            sign.unlink()
            assert await waiting == ["seen"]


async def test_idle_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that nobody has needed for long ends; the next call starts another."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.01)
    async with hooked("who") as hook:
        (first,) = await fates_of(hook, b"a")
        await until(lambda: gone(int(first)))
        assert await fates_of(hook, b"a") != [first]


# Checking


async def test_a_check_leaves_no_process() -> None:
    """Code that loads is ready; the process that showed it ends at once, and nothing was called."""
    async with hooked("who") as hook:
        await hook.check()
        assert workers_of() == []


async def test_a_check_beside_work() -> None:
    """A process that has loaded the code already is proof enough, and goes on."""
    async with hooked("who") as hook:
        before = await fates_of(hook, b"a")
        await hook.check()
        assert await fates_of(hook, b"a") == before


async def test_a_check_of_code_that_is_not_there() -> None:
    """What keeps the code from being loaded is said, and no process is left."""
    async with hooked("nothing_of_the_kind") as hook:
        with pytest.raises(Refused, match="has no function nothing_of_the_kind"):
            await hook.check()
        await until(lambda: not workers_of())


@pytest.mark.parametrize("turns", [1, 2, 5, 20, None])
async def test_closing_while_a_check_is_under_way(turns: int | None) -> None:
    """A check whose hook is closed says to ask again, and leaves no process."""
    async with hooked("who") as hook:
        checking = asyncio.create_task(hook.check())
        await so_many(turns)
        await hook.close()
        assert workers_of() == []
        with pytest.raises(Retry):
            await checking


# Closing, reloading, cancelling


async def test_closing_tells_everybody(tmp_path: Path) -> None:
    """Whoever waits is told to ask again: at work, in line, starting, trying again. No process is left, at once."""
    sign = tmp_path / "sign"
    async with hooked("wait_for_the_sign", workers=2) as hook:
        waiting = [asyncio.create_task(hook.outcome(rows([bytes(sign)]))) for _ in range(5)]
        await until(sign.exists)
        await hook.close()
        assert workers_of() == []
        assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [Retry] * 5
        with pytest.raises(Retry):
            await hook.outcome(rows([b"x"]))


@pytest.mark.parametrize("turns", [1, 2, 5, 20, None])
async def test_closing_while_a_process_starts(turns: int | None) -> None:
    """So it is in each moment of a process's start."""
    async with hooked("evil_record") as hook:
        waiting = asyncio.create_task(hook.outcome(rows([b"a"])))
        await so_many(turns)
        await hook.close()
        assert workers_of() == []
        with pytest.raises(Retry):
            await waiting


async def test_closing_while_taking_apart() -> None:
    """So it is while a slice is taken apart: nothing is refused for it."""
    async with hooked("evil_lambda", timeout_seconds=60) as hook:
        with capture_logs() as logs:
            waiting = asyncio.create_task(hook.outcome(rows([b"a", b"raise", b"hang", b"b"])))
            await until(lambda: told(logs, "hook.failed"))
        await hook.close()
        with pytest.raises(Retry):
            await waiting


@pytest.mark.parametrize("turns", [1, 2, 5, 20, None])
async def test_cancelling(turns: int | None) -> None:
    """A call that is cancelled, at whatever moment, takes its process along, and the hook goes on."""
    async with hooked("evil_record") as hook:
        waiting = asyncio.create_task(hook.outcome(rows([b"hang"])))
        await so_many(turns)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: not workers_of())
        assert await fates_of(hook, b"a") == ["A"]


async def test_changed_code_is_picked_up(tmp_path: Path) -> None:
    """A new hook runs the file as it is now, even where it was changed within a second and is as long as before."""
    code = tmp_path / "changing.py"
    for answer in ("one", "two", "six"):
        code.write_text(f"def f(record):\n    return b'{answer}'\n")
        async with hooked("changing:f", path=str(tmp_path)) as hook:
            assert await fates_of(hook, b"a") == [answer]


async def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no process or descriptor to give, that is nobody's fault: ask again."""

    async def none(*_: object, **__: object) -> object:
        raise OSError(11, "Resource temporarily unavailable")

    async with hooked("evil_record") as hook:
        before = os.listdir("/proc/self/fd")
        with monkeypatch.context() as patch:
            patch.setattr("asyncio.create_subprocess_exec", none)
            with pytest.raises(Retry, match="temporarily unavailable"):
                await hook.outcome(rows([b"a"]))
        assert len(os.listdir("/proc/self/fd")) == len(before)
        assert await fates_of(hook, b"a") == ["A"]


async def test_descriptors_are_given_back() -> None:
    """Workers that come and go leave no descriptor open."""
    async with hooked("evil_record") as hook:
        await fates_of(hook, b"die")
        before = len(os.listdir("/proc/self/fd"))
        await fates_of(hook, b"die", b"die", b"die")
        assert len(os.listdir("/proc/self/fd")) <= before
