"""The machine's disk and clock as its processes see them: every step takes time, may fail, and may be the last one.

What the disk does is `faulty_disk`'s; here it gets its interleavings. A `Door` belongs to one process and dies with
it. `Machine.trap` sets a crash at a step to come, before or after its effect.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from random import Random

import pyarrow as pa
from faulty_disk import FREE, Fault, FaultyDisk
from replacing import replace_by_steps
from simulation.world import Process, World
from virtual_time import START_MS, VirtualRuntime

from firehose.contracts import Lock, View, Writer
from firehose.model import Stored
from firehose.runtime import Threads

QUICK_SECONDS = (0.0001, 0.0004, 0.001, 0.003)
SLOW_SECONDS = 0.5
LOOKING = ("list", "exists", "size", "read", "view")


class Machine:
    """What survives its processes."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.disk = FaultyDisk()
        self.wall_ms = START_MS
        self.slow = False
        self.seed = seed
        self.steps = 0
        self.removing: Callable[[str, bytes], None] = lambda path, content: None  # told of a file that is about to go
        self._trap: tuple[int, bool, Callable[[], None]] | None = None

    def trap(self, steps: int, after: bool, crash: Callable[[], None]) -> None:
        """So many steps from now, `crash` happens, before or after the step."""
        self._trap = (self.steps + steps, after, crash)

    def step(self, after: bool) -> None:
        """A step begins, or has had its effect."""
        self.steps += not after
        if self._trap is not None and self.steps >= self._trap[0] and after == self._trap[1]:
            crash, self._trap = self._trap[2], None
            crash()

    def break_next(self, step: str, number: int, ending: str, times: int) -> None:
        """The next steps of this kind on such a file fail."""
        self.world.note("machine", f"the next {times} {step} of *{ending} fail: {errno.errorcode[number]}")
        self.disk.faults.append(Fault(step, number, ending, times))

    def make_room(self) -> None:
        self.disk.free = FREE

    def hasten(self) -> None:
        self.slow = False

    def mend(self) -> None:
        """Nothing fails from now on."""
        self.disk.faults.clear()
        self.make_room()
        self.hasten()
        self._trap = None

    def power_cut(self) -> None:
        self.disk = self.disk.after_power_cut(self.world.dice)

    @property
    def step_seconds(self) -> float:
        return self.world.dice.choice(QUICK_SECONDS)


class Door:
    """A `Disk` for one process."""

    def __init__(self, machine: Machine, process: Process) -> None:
        self._machine = machine
        self._process = process

    def _step(self, step: str, path: str) -> FaultyDisk:
        self._process.check()
        slow = self._machine.slow and step in ("sync", "sync_folder")
        self._process.world.pause(SLOW_SECONDS if slow else self._machine.step_seconds)
        if step not in LOOKING:
            self._machine.step(after=False)
            self._process.check()
            self._process.note(f"{step} {path}")
        return self._machine.disk

    def _done(self, step: str, path: str) -> None:
        self._machine.step(after=True)
        self._process.check()

    def make_folder(self, path: str) -> None:
        self._step("mkdir", path).make_folder(path)
        self._done("mkdir", path)

    def remove_folder(self, path: str) -> None:
        self._step("rmdir", path).remove_folder(path)
        self._done("rmdir", path)

    def list(self, path: str) -> list[str]:
        return self._step("list", path).list(path)

    def size(self, path: str) -> int:
        return self._step("size", path).size(path)

    def exists(self, path: str) -> bool:
        return self._step("exists", path).exists(path)

    def read(self, path: str) -> bytes:
        return self._step("read", path).read(path)

    def view(self, path: str) -> View:
        return self._step("view", path).view(path)

    def create(self, path: str) -> Writer:
        writer = self._step("create", path).create(path)
        self._done("create", path)
        return self.writer(path, writer)

    def reopen(self, path: str, size_bytes: int) -> Writer:
        writer = self._step("cut", path).reopen(path, size_bytes)
        self._done("cut", path)
        return self.writer(path, writer)

    def writer(self, path: str, writer: Writer) -> Writer:
        return DoorWriter(self, path, writer)

    def replace(self, path: str, content: bytes) -> None:
        replace_by_steps(self, path, content)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", target).rename(source, target)
        self._done("rename", target)

    def remove(self, path: str) -> None:
        disk = self._step("remove", path)
        if disk.exists(path):
            self._machine.removing(path, disk.read(path))
        disk.remove(path)
        self._done("remove", path)

    def sync_folder(self, path: str) -> None:
        self._step("sync_folder", path).sync_folder(path)
        self._done("sync_folder", path)

    def free_bytes(self, path: str) -> int:
        self._process.check()
        return self._machine.disk.free_bytes(path)

    def tree_bytes(self, path: str) -> int:
        return self._step("size", path).tree_bytes(path)

    def tree(self, path: str) -> Iterator[Stored]:
        return self._step("list", path).tree(path)

    def lock(self, path: str) -> Lock | None:
        self._process.check()
        lock = self._machine.disk.lock(path)
        if lock is not None:
            self._process.at_end.append(lock.close)
        return lock


class DoorWriter:
    """A file of one process."""

    def __init__(self, door: Door, path: str, writer: Writer) -> None:
        self._door = door
        self._path = path
        self._writer = writer

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        data = b"".join(bytes(chunk) for chunk in chunks)
        if self._door._step("write", self._path).free < len(data):
            raise OSError(errno.ENOSPC, "the disk is full", self._path)
        size = self._writer.write(data)
        self._door._done("write", self._path)
        return size

    def sync(self) -> None:
        self._door._step("sync", self._path)
        self._writer.sync()
        self._door._done("sync", self._path)

    def close(self) -> None:
        self._writer.close()


class MachineRuntime(VirtualRuntime):
    """A process's clock, threads and dice. No two processes roll the same."""

    def __init__(self, machine: Machine, process: Process) -> None:
        super().__init__()
        self._machine = machine
        self._process = process
        self._dice = Random(f"{machine.seed} {process.name}")

    def now_ms(self) -> int:
        return self._machine.wall_ms + int(self._machine.world.now * 1000)

    def seconds_of(self, call: Callable[[], None]) -> float:
        began = self._machine.world.now
        call()
        return self._machine.world.now - began

    def threads(self, name: str, size: int, spare_cores: int = 0) -> Threads:
        return self._process.threads(size)
