"""A child that is forked before there is an event loop: as one that begins by itself, but for what is loaded.

Each test is a program of its own: a process that forks must have a single thread, and that of the tests has several.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys, time, uvloop
from firehose.forked_half import forked

def echo():
    while heard := os.read(0, 1 << 16):
        os.write(1, heard.upper())

async def said(half, *lines):
    await half.open(1 << 20)
    half.stdin.writelines(lines)
    half.stdin.close()
    return await half.stdout.read(), await half.wait(), half.returncode

def no_child_is_left():
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
"""


def run(program: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, and that of all that it has started: they have its standard error."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_child_hears_and_is_heard() -> None:
    """What is written to it, it reads to the end; what it says is read; its end is noticed, and leaves no zombie."""
    done = run("""
half = forked(echo)
assert uvloop.run(said(half, b"a", b"b")) == (b"AB", 0, 0)
assert no_child_is_left()
half.kill()  # of one that has ended is nothing
half.abandon()
""")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("life", "code"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -9), ("pass", 0)],
)
def test_exit_codes(life: str, code: int) -> None:
    """How it ended is told as of any process; its last words, said just before that, are read first."""
    run(f"""
def life():
    os.write(1, b"x" * 100_000)
    {life}
assert uvloop.run(said(forked(life))) == (b"x" * 100_000, {code}, {code})
""")


def test_end_is_noticed_where_children_were_not_to_be_waited_for() -> None:
    """A process may be begun with SIGCHLD ignored, and its children then leave nothing behind to be noticed by."""
    run("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
half = forked(echo)
assert uvloop.run(said(half, b"a")) == (b"A", 0, 0)
half = forked(echo)
half.abandon()
assert no_child_is_left()
""")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_no_fork_without_a_standard_descriptor(closed: int) -> None:
    """The pipe's ends would take its number."""
    run(f"""
kept = os.dup({closed})
os.close({closed})
half = forked(echo)
os.dup2(kept, {closed})
assert half is None
""")


def test_life_that_fails_says_why_and_does_nothing_else() -> None:
    """An error ends the child with 1 and a traceback, and not with what the parent meant to do at its end."""
    done = run("""
import atexit
atexit.register(print, "goodbye")
sys.stdout.write("said once ")
try:
    half = forked(lambda: {}["nothing"])
    assert uvloop.run(said(half)) == (b"", 1, 1)
finally:
    print("and for all")
""")
    assert done.stdout == "said once and for all\ngoodbye\n"
    assert done.stderr.count("KeyError: 'nothing'") == 1


def test_killed_child() -> None:
    """It can be killed, and then nobody goes on writing to it."""
    run("""
async def main():
    half = forked_before
    await half.open(1 << 20)
    half.kill()
    assert (await half.stdout.read(), await half.wait()) == (b"", -signal.SIGKILL)
    assert half.stdin.is_closing()
forked_before = forked(echo)
uvloop.run(main())
""")


def test_writer_of_a_killed_child_need_not_wait() -> None:
    """Whoever waits until a child reads, hears that it has ended."""
    run("""
async def main():
    await half.open(1 << 20)
    half.stdin.write(b"x" * (1 << 24))
    draining = asyncio.create_task(half.stdin.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    half.kill()
    await asyncio.wait([draining])
    assert draining.exception() is None or isinstance(draining.exception(), ConnectionError)
    assert await half.wait() == -signal.SIGKILL
half = forked(lambda: time.sleep(3600))
uvloop.run(main())
""")


def test_orphan_hears_the_end() -> None:
    """Where its parent is killed the child reads to the end, though nobody has opened its pipe."""
    done = run(
        """
def life():
    echo()
    print("alone", file=sys.stderr)
half = forked(life)
os.kill(os.getpid(), signal.SIGKILL)
""",
        code=-9,
    )
    assert done.stderr == "alone\n"


def test_child_has_nothing_else_open() -> None:
    """Of its parent's descriptors it has standard error, and its end of the way to its parent."""
    run("""
others = [os.open("/dev/null", os.O_RDONLY), *os.pipe()]
os.set_inheritable(others[0], True)
def life():
    open_now = sorted(map(int, os.listdir("/proc/self/fd")))
    print(open_now[:-1], sys.stdin.fileno(), os.isatty(2), flush=True)  # the last one was that of the list
    sys.stdin.read()
assert uvloop.run(said(forked(life))) == (b"[0, 1, 2] 0 False\\n", 0, 0)
assert all(os.fstat(one) for one in others)
""")


def test_child_is_deaf_to_its_parents_signals() -> None:
    """Those that a terminal sends to both, from its first moment on; the parent hears them as before."""
    run("""
half = forked(echo)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(half.pid, number)
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "ours are blocked"
assert uvloop.run(said(half, b"a")) == (b"A", 0, 0)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
""")


def test_abandoned_child() -> None:
    """One that nobody has opened is gone when it is abandoned, before it could do anything."""
    run("""
half = forked(echo)
half.abandon()
assert no_child_is_left()
""")


def test_dice_of_the_two_differ() -> None:
    """No name and no number that either draws is drawn by the other, though both have been drawing before."""
    run("""
from firehose.runtime import Runtime
import uuid
def draw():
    dice = Runtime()
    drawn = (dice.request_id(), dice.lane_name()[-16:], str(dice.jitter()), str(uuid.uuid4()))
    return " ".join(drawn).encode()
draw()
half = forked(lambda: os.write(1, draw()))
theirs, _, _ = uvloop.run(said(half))
assert len(theirs.split()) == 4 and not {*theirs.split()} & {*draw().split()}
""")


@pytest.mark.parametrize(
    "reason",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "del os.pidfd_open",
        "os.fork = none",
    ],
    ids=["threads", "no news of its end", "no process"],
)
def test_no_fork(reason: str) -> None:
    """Where that cannot be, or not in peace, there is no child and nothing is left open."""
    run(f"""
def none():
    raise BlockingIOError("no process more")
before = os.listdir("/proc/self/fd")
{reason}
assert forked(echo) is None
assert os.listdir("/proc/self/fd") == before
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
os._exit(0)
""")
