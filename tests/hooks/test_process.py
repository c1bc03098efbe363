"""Whatever the user's code does to its process, each record has its end, and no process is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop
from batches import rows
from clock import put_forward
from hooking import HANDLERS, fates, fates_of, gone, hooked, messages, overdue, told, until, workers_of
from programs import wait_for
from structlog.testing import capture_logs

from firehose.hooks import printed, process, wire

REFUSED = "FunctionError"


def lines(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [one["line"] for one in told(logs, "hook.printed")]


# Failing, crashing, hanging


@pytest.mark.parametrize(
    "evil",
    ["raise", "odd", "wordless", "sys.exit", "interrupt", "os._exit", "die", "crash", "allocate", "close_all"],
)
async def test_a_record_that_fails(evil: str) -> None:
    """A record at which the code raises whatever, exits, crashes or bursts is refused; its neighbours are not."""
    async with hooked("evil_record") as hook:
        assert await fates_of(hook, b"a", evil.encode(), b"c") == ["A", REFUSED, "C"]
    assert workers_of() == []


@pytest.mark.parametrize("style", ["lambda", "batch"])
@pytest.mark.parametrize("evil", ["raise", "odd", "wordless", "sys.exit", "os._exit", "allocate"])
async def test_a_slice_that_fails(style: str, evil: str) -> None:
    """So it is where the code sees all records at once: the one at fault is found by halves."""
    async with hooked(f"evil_{style}") as hook:
        assert await fates_of(hook, b"a", evil.encode(), b"c", b"d") == ["A", REFUSED, "C", "D"]
    assert workers_of() == []


@pytest.mark.parametrize("evil", ["hang", "deaf", "stop", "spin", "hold_the_interpreter"])
async def test_a_record_that_hangs(evil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that hangs is known when the time is over, whatever it does with the interpreter and its signals."""
    overdue(monkeypatch, evil.encode())
    async with hooked("evil_record") as hook:
        assert await fates_of(hook, b"a", evil.encode(), b"c") == ["A", "FunctionTimedOut", "C"]
    assert workers_of() == []


async def test_a_record_that_hangs_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that closes all that leads to it before it hangs is known at once."""
    monkeypatch.setattr(process, "PARTING_SECONDS", 0.1)
    async with hooked("evil_record") as hook:
        outcome = await hook.outcome(rows([b"a", b"close_all_and_hang", b"c"]))
    assert list(fates(outcome, 3).values()) == ["A", REFUSED, "C"]
    assert messages(outcome)[0].startswith("it has closed its connection")
    assert workers_of() == []


async def test_who_comes_behind_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that a process is at when its connection turns out to be closed may be behind the one that closed it;
    and what happens behind the last record is not that one's fault.
    """
    monkeypatch.setattr(process, "PARTING_SECONDS", 0.2)
    async with hooked("evil_record") as hook:
        assert await fates_of(hook, b"a", b"close_all", b"linger", b"c") == ["A", REFUSED, "LINGER", "C"]
        assert await fates_of(hook, b"a", b"spoil_the_end", b"c") == ["A", REFUSED, "C"]


@pytest.mark.parametrize("style", ["lambda", "batch"])
async def test_a_slice_that_hangs(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice that hangs is taken apart as one that crashes."""
    overdue(monkeypatch, b"hang", by_record=False)
    async with hooked(f"evil_{style}") as hook:
        assert await fates_of(hook, b"hang", b"b") == ["FunctionTimedOut", "B"]


async def test_what_failures_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure says what happened, in words that are text and not too many."""
    monkeypatch.setattr(process, "PARTING_SECONDS", 60.0)  # who has ended is not taken for one that hung up
    words = {
        "raise": "ZeroDivisionError: division by zero",
        "odd": "Odd: ?x",
        "wordless": "Wordless",
        "die": "its process ended: signal SIGKILL",
        "os._exit": "its process ended: exit status 0",
        "allocate": "MemoryError",
    }
    async with hooked("evil_record") as hook:
        outcome = await hook.outcome(rows([evil.encode() for evil in words]))
    said = messages(outcome)
    assert [text[: len(begin)] for text, begin in zip(said, words.values(), strict=True)] == list(words.values())
    assert max(map(len, said)) == 1000


async def test_without_its_modules() -> None:
    """Code that tears the interpreter's modules out may fail, and neither hangs nor loses a record."""
    async with hooked("evil_record") as hook:
        for _ in range(2):
            found = await fates_of(hook, b"a", b"forget_all_modules", b"c")
            assert found[0] in ("A", REFUSED)


async def test_slow_is_not_hanging(tmp_path: Path) -> None:
    """Where the time is over in the middle of merely slow records, the one it was at is not held guilty."""
    signs = [tmp_path / "a", tmp_path / "b"]
    async with hooked("wait_for_the_sign", timeout_seconds=60) as hook:
        with capture_logs() as logs:
            waiting = asyncio.create_task(fates_of(hook, *map(bytes, signs)))
            await until(signs[0].exists)
            put_forward(30)
            for _ in range(2):  # the look that is due comes with the next turn of the loop, behind us
                await asyncio.sleep(0)
            signs[0].unlink()
            await until(signs[1].exists)
            put_forward(30)
            await until(lambda: told(logs, "hook.failed"))
        while not waiting.done():
            for sign in signs:
                sign.unlink(missing_ok=True)
            await asyncio.sleep(0.01)
        assert await waiting == ["seen"] * 2


# What it leaves behind


async def test_a_copy_of_the_process() -> None:
    """A copy that comes out of the handler answers nothing, and confuses nobody about where the process is."""
    async with hooked("fork_and_return") as hook:
        found = await fates_of(hook, b"a", b"b")
        assert all(pid.isdigit() for pid in found)
        wait_for(lambda: all(gone(int(pid)) for pid in found), "the copies to end")
    async with hooked("fork_and_crash") as hook:
        assert await fates_of(hook, b"a", b"bad", b"c", b"later") == ["a", REFUSED, "c", "later"]


async def test_a_child_ends_with_its_process() -> None:
    """What the code has started ends with its worker."""
    async with hooked("leave_a_child") as hook:
        (pid,) = await fates_of(hook, b"a")
        assert not gone(int(pid))
    wait_for(lambda: gone(int(pid)), "the child to end")


async def test_a_daemon_holds_nobody_up() -> None:
    """A process that left the worker's session is out of reach: closing does not wait for it, though it holds all that
    the worker had open.
    """
    async with hooked("leave_a_daemon") as hook:
        (pid,) = await fates_of(hook, b"a")
    try:
        wait_for(lambda: workers_of() == [], "the worker to be gone")
        assert not gone(int(pid))
    finally:
        os.kill(int(pid), signal.SIGKILL)


async def test_a_good_process() -> None:
    """Programs run, standard input is empty, threads that never end hold nobody up, other folders are fine."""
    for handler in ("run_a_program", "read_standard_input", "start_a_thread", "change_folder"):
        async with hooked(handler) as hook:
            for _ in range(2):
                assert (await fates_of(hook, b"abc"))[0].startswith("abc")
    assert workers_of() == []


async def test_state_lives_as_long_as_the_process() -> None:
    """A module keeps what it knows from call to call."""
    async with hooked("sum_up") as hook:
        assert await fates_of(hook, b"a", b"b") == ["1", "2"]
        assert await fates_of(hook, b"c") == ["3"]


def test_the_service_is_killed() -> None:
    """A service that is killed takes its worker along, even one that keeps the interpreter to itself."""
    program = (
        "import asyncio, sys; sys.path[:0] = sys.argv[1:3]\n"
        "from hooking import hooked, fates_of\n"
        "async def main():\n"
        "    async with hooked(sys.argv[3]) as hook:\n"
        "        print(*await fates_of(hook, b'a'), flush=True)\n"
        "        await fates_of(hook, sys.argv[4].encode())\n"
        "asyncio.run(main())\n"
    )
    tests = HANDLERS.parent
    for evil in ("hold_the_interpreter", "stop", "spin", "hang"):
        command = [sys.executable, "-c", program, str(tests), str(tests / "support"), "evil_record", evil]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            assert service.stdout.readline() == "A\n"
            (worker,) = workers_of(service.pid)
            if evil != "hang":
                wait_for(lambda pid=worker: busy(pid), "the call to be under way")  # type: ignore[misc]
            service.kill()
        wait_for(lambda pid=worker: gone(pid), f"the worker that {evil}s to end")  # type: ignore[misc]


def busy(pid: int) -> bool:
    """Runs, or was stopped: the main thread does not wait for the next message."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "RT"


# Prints


async def test_prints_are_logged() -> None:
    """What is printed reaches the log with stream and hook, line by line; long lines are cut between characters."""
    long = "ä" * 10_000
    with capture_logs() as logs:
        async with hooked("say") as hook:
            assert await fates_of(hook, b"one\ntwo", long.encode()) == ["one\ntwo", long]
    assert {(one["stream"], one["hook"]) for one in told(logs, "hook.printed")} == {("app", "handlers:say")}
    assert lines(logs)[:2] == ["one", "two"]
    assert "".join(lines(logs)[2:]) == long
    assert max(map(len, lines(logs))) <= printed.LINE_CHARACTERS


async def test_last_words_and_tracebacks_are_logged() -> None:
    """What was printed before a crash is logged, and so is where the code raised or crashed: once for each call."""
    with capture_logs() as logs:
        async with hooked("say_and_die") as hook:
            assert await fates_of(hook, b"a") == [REFUSED]
    assert "last words" in lines(logs)
    for evil, word in (("raise", "ZeroDivisionError: division by zero"), ("crash", "Fatal Python error: Aborted")):
        with capture_logs() as logs:
            async with hooked("evil_record") as hook:
                await fates_of(hook, evil.encode(), evil.encode())
        assert lines(logs).count(word) == (1 if evil == "raise" else 2)
        assert any("handlers.py" in line for line in lines(logs))


@pytest.mark.parametrize("handler", ["print_a_gigabyte", "print_empty_lines"])
async def test_endless_prints(handler: str) -> None:
    """Of what one call prints only so much is logged, and how much was left out."""
    with capture_logs() as logs:
        async with hooked(handler) as hook:
            for _ in range(2 if handler == "print_empty_lines" else 1):
                assert await fates_of(hook, b"a") == ["a"]
    assert 1 <= len(told(logs, "hook.print_cut")) <= 2
    assert len(lines(logs)) <= 2 * printed.CALL_LINES
    assert sum(map(len, lines(logs))) <= 2 * printed.CALL_BYTES


async def test_prints_that_are_none() -> None:
    """Code that prints what is no text, or closes its standard streams, does its work all the same."""
    with capture_logs() as logs:
        async with hooked("print_bytes_and_close") as hook:
            assert await fates_of(hook, b"a\xff") == ["a\ufffd"]
            assert await fates_of(hook, b"b") == ["b"]
    assert lines(logs) == ["a\ufffd"]


# The connection


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\0" * 64, id="zeros"),
        pytest.param(b"\xff" * 64, id="ones"),
        pytest.param(b"print\n" * 99, id="text"),
        pytest.param(b"".join(map(bytes, wire.message(wire.READY))), id="ready"),
        pytest.param(b"".join(map(bytes, wire.message(wire.OUTCOME, b"", b"", b""))), id="empty outcome"),
        pytest.param(b"".join(map(bytes, wire.message(wire.OUTCOME, *[b"abcdefgh" * 9] * 3))), id="no outcome"),
        pytest.param(b"".join(map(bytes, wire.message(wire.FAILED, b"{}"))), id="no failure"),
        pytest.param(b"".join(map(bytes, wire.message(wire.SPOILT, b"\xff"))), id="no text"),
    ],
)
async def test_garbage(garbage: bytes) -> None:
    """Code that writes to whatever descriptor it finds fails; the next call has a process of its own."""
    async with hooked("write_everywhere") as hook:
        outcome = await hook.outcome(rows([garbage]))
        assert fates(outcome, 1) == {0: REFUSED}
        assert "cannot be used" in messages(outcome)[0]
        assert await fates_of(hook, b"") == [""]


async def test_too_large_an_answer() -> None:
    """An answer beyond the bound of a message is refused, and blames no record that is not at fault. What a large one
    took of shared memory is given back.
    """
    async with hooked("much_more") as hook:
        outcome = await hook.outcome(rows([b"", b"xx", b""]))
        assert fates(outcome, 3) == {0: "", 1: REFUSED, 2: ""}
        assert "more than" in messages(outcome)[0]
        assert len((await fates_of(hook, b"x"))[0]) == 40_000_000
        (pid,) = workers_of()
        assert shared_kib(pid) < 9 * 1024


def shared_kib(pid: int) -> int:
    """Of the memory that it shares with us, what is there."""
    mapping = Path(f"/proc/{pid}/smaps").read_text().partition("memfd:hook")[2]
    return int(mapping.partition("Pss:")[2].split()[0]) * 2


def test_on_the_services_loop() -> None:
    """All of this holds on uvloop, where the service runs."""

    async def main() -> None:
        async with hooked("evil_record", timeout_seconds=1) as hook:  # alone: the clock of this loop cannot be moved
            assert await fates_of(hook, b"hang") == ["FunctionTimedOut"]
        async with hooked("evil_record") as hook:
            assert await fates_of(hook, b"a", b"die") == ["A", REFUSED]
        async with hooked("leave_a_daemon") as hook:
            (pid,) = await fates_of(hook, b"a")
        os.kill(int(pid), signal.SIGKILL)
        assert workers_of() == []

    with capture_logs() as logs:
        uvloop.run(main())
    assert told(logs, "hook.failed")


async def test_a_hook_that_fails_at_everything_does_not_flood_the_log() -> None:
    """While the records at fault are searched for, call after call, little is logged of what each call prints."""
    with capture_logs() as logs:
        async with hooked("print_and_fail", attempts=1) as hook:
            assert await fates_of(hook, *(b"%d" % n for n in range(8))) == [REFUSED] * 8
    printed = sum(log["event"] == "hook.printed" for log in logs)
    assert 500 < printed < 1000
