"""A worker process: loads one program, then turns rows into outcomes until its service hangs up.

Everything here serves one end: whatever the user's code does (raise, exit, hang, fork, print, eat memory), the service
learns of it or sees this process end. It is started with these descriptors: standard input, which says nothing and
closes with the service; standard output and error, which are the log; a socket and shared memory for messages (`wire`),
and for the row that is being worked on.

    python -m firehose.hooks.worker SOCKET MEMORY
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import mmap
import os
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from firehose.hooks import wire
from firehose.hooks.program import FUNCTION_ERROR, Failed, Mark, Run, print_traceback, said
from firehose.runtime import daemon

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Channel:
    """Blocking messages."""

    def __init__(self, descriptor: int, shared: mmap.mmap) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._shared = shared

    def send(self, message: list[wire.Part]) -> None:
        told, *parts = message
        with memoryview(self._shared) as shared:
            wire.put(shared, parts)
        self._socket.sendall(told)

    def receive(self) -> list[pa.Buffer]:
        """The parts of the next message. Ends the process where there is none to come."""
        _, count = wire.head(self._read(wire.HEAD.size))
        sizes = wire.sizes(self._read(wire.SIZE.size * count))
        with memoryview(self._shared) as shared:
            return wire.taken(shared, sizes)

    def _read(self, size: int) -> bytes:
        content = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        if len(content) < size:
            os._exit(0)
        return content


def main() -> None:
    shared = mmap.mmap(int(sys.argv[2]), wire.SHARED_BYTES)
    os.close(int(sys.argv[2]))
    os.register_at_fork(after_in_child=shared.close)  # a copy of this process must not say at which row this one is
    channel = Channel(int(sys.argv[1]), shared)
    _end_with_the_service()
    _log_at_once()
    try:
        run = _loaded(msgspec.json.decode(channel.receive()[0].to_pybytes()))
    except Failed as failed:
        channel.send(wire.of_failure(failed, spoilt=True))
        return
    channel.send(wire.message(wire.READY))
    me = os.getpid()
    mark = partial(wire.MARK.pack_into, shared, 0)
    while True:
        answer = _answer(run, wire.rows(channel.receive()[0]), mark)
        if os.getpid() != me:
            return  # a copy that the user's code has forked, and that has come out at the same door
        _flush()
        channel.send(answer)


def _answer(run: Run, rows: pa.RecordBatch, mark: Mark) -> list[wire.Part]:
    """What to say of these rows. Where the user's code fails, the mark stays on the row that it failed at."""
    try:
        mark(wire.NOWHERE)
        outcome = run(rows, mark)
        mark(wire.NOWHERE)
        return wire.of_outcome(outcome)
    except Failed as failed:
        return wire.of_failure(failed)
    except BaseException as error:
        print_traceback(error)
        spoilt = isinstance(error, MemoryError) or not isinstance(error, Exception | SystemExit)
        return wire.of_failure(Failed(FUNCTION_ERROR, said(error)), spoilt=spoilt)


def _loaded(order: Mapping[str, Any]) -> Run:
    """The program's function. Raises `Failed` where the user's code cannot be loaded."""
    module, _, maker = order["maker"].partition(":")
    _bound_memory(order["memory_mib"])
    try:
        run: Run = getattr(importlib.import_module(module), maker)(order["options"])
    except Failed:
        raise
    except BaseException as error:
        print_traceback(error)
        raise Failed(FUNCTION_ERROR, said(error), final=True) from error
    return run


def _bound_memory(memory_mib: int) -> None:
    """At most so much more than this process has now. Only Linux says how much that is."""
    try:
        import resource

        status = Path("/proc/self/status").read_text()
    except (ImportError, OSError):
        return
    (has_kib,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    limit = has_kib * 1024 + memory_mib * 1024 * 1024
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _end_with_the_service() -> None:
    """Standard input is the service's life line, and the user's code gets an empty one."""
    life = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _let_the_kernel_see_to_it()

    def wait() -> None:
        os.read(life, 1)
        os.killpg(0, signal.SIGKILL)  # with all that the user's code has started

    daemon("life", wait)


def _let_the_kernel_see_to_it() -> None:
    """Code that keeps the interpreter to itself lets no thread look at the life line. Only Linux can do better."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    except (OSError, AttributeError):
        pass


def _log_at_once() -> None:
    """A process that is killed or crashes has said all it had to say: prints up to then, and where it crashed."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass  # the user's code has closed or replaced it


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        print_traceback(error)
    os._exit(1)  # without waiting for threads that the user's code has started
