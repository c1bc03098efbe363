"""The first delivery half as a fork of the front: what both have loaded then lies in memory once.

To be forked a process must have a single thread, and nothing yet that two cannot share: no event loop, no lock, no
data folder. So this is done once, before the service begins. A delivery half that follows one that has ended is a
program of its own, and so is the first where there can be no fork. Of what its parent has open the child keeps what
that program would have: the way to its parent, and standard error.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Set
from typing import NoReturn

PARENTS_SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))  # it tells its child what they mean


class ForkedHalf:
    """The parent's side, in the guise of an `asyncio.subprocess.Process` once it is open."""

    def __init__(self, pid: int, to: socket.socket, back: socket.socket) -> None:
        self.pid = pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.returncode: int | None = None
        self._to = to
        self._back = back
        self._end = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        self._mute: asyncio.StreamWriter | None = None

    async def open(self, limit_bytes: int) -> None:
        """To be called once, in the event loop that hears it: in lines of at most so many bytes."""
        _, self.stdin = await asyncio.open_unix_connection(sock=self._to)
        self.stdout, self._mute = await asyncio.open_unix_connection(sock=self._back, limit=limit_bytes)
        asyncio.get_running_loop().add_reader(self._end, self._reap)

    def abandon(self) -> None:
        """Ends it where it has not been opened: it has done nothing yet."""
        if self._mute is None:
            self.kill()
            os.waitpid(self.pid, 0)
            os.close(self._end)
            self._to.close()
            self._back.close()

    async def wait(self) -> int:
        """Its exit code, once what it has said is read."""
        await self._ended.wait()
        assert self._mute is not None, "open() comes first"
        assert self.returncode is not None
        self._mute.close()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:  # until then nobody else has its number
            os.kill(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        assert self.stdin is not None, "open() comes first"
        asyncio.get_running_loop().remove_reader(self._end)
        os.close(self._end)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self.stdin.close()
        self._ended.set()


def forked(life: Callable[[], None]) -> ForkedHalf | None:
    """A child that lives this life. None where that cannot be, or not in peace: there is more than one thread."""
    if not _alone():
        return None
    to, told = socket.socketpair()
    back, says = socket.socketpair()
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # inherited: nobody could be told how the child ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)  # until the child is deaf to them
    try:
        pid = os.fork()
        if not pid:
            _begin(life, told.detach(), says.detach(), signals)
        return ForkedHalf(pid, to, back)
    except OSError:  # no memory, or no process more: what is tried later may succeed
        to.close()
        back.close()
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        told.close()
        says.close()


def _alone() -> bool:
    """Whether this process has but one thread, of whatever library, and can be told when a child of it ends. Where it
    was begun without a standard descriptor, ours would take its number, which is the child's for something else.
    """
    try:
        lowest = os.pidfd_open(os.getpid())
        os.close(lowest)
        return lowest > 2 and len(os.listdir("/proc/self/task")) == 1
    except (AttributeError, OSError):  # not Linux, or not a recent one
        return False


def _begin(life: Callable[[], None], told: int, says: int, signals: Set[int]) -> NoReturn:
    """In the child, of which nothing but the end of its life leads back into its parent's."""
    code = 1
    try:
        for number in PARENTS_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        os.dup2(told, 0)
        os.dup2(says, 1)
        _close_beyond(2)
        sys.stdin = os.fdopen(0)
        life()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _close_beyond(last: int) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > last:
            try:
                os.close(number)
            except OSError:
                pass  # that of the list itself
