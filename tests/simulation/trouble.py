"""What goes wrong, and when: crashes of every kind, disks, stores and clocks that misbehave, orders that people give.

Each seed draws its own few kinds, so that one kind does not always hide behind another.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.life import Simulation

APART_SECONDS = 4.0  # on average
FILES = ("", "", ".open", "/ledger", "/catalog.new")  # on which steps fail: how their names end
FOLDERS = ("", "", "", "/data", "/data/buffer")
MOODS = ("slow", "500", "503", "403", "reset", "unreachable", "lost", "late", "never", "500 after", "part")


class Trouble:
    """Makes it, at moments that the seed decides."""

    def __init__(self, life: Simulation, names: list[str]) -> None:
        self._life = life
        self._names = names
        self._world = life.world
        self._dice = life.world.dice
        self._machine = life.machine
        self._store = life.store

    def schedule(self, seconds: float, only: tuple[str, ...]) -> None:
        """Draws what happens within that time; of these kinds only, where there are any."""
        kinds: dict[str, Callable[[], None]] = {
            "kill both": partial(self._crash, "both"),
            "kill front": partial(self._crash, "front"),
            "kill delivery": partial(self._crash, "delivery"),
            "cut power": partial(self._crash, "power"),
            "stop": self._stop_one,
            "break disk": self._break_disk,
            "fill disk": self._fill_disk,
            "slow disk": self._slow_disk,
            "upset store": self._upset_store,
            "turn clock": self._turn_clock,
            "reload": self._reload,
            "seal": self._seal,
            "leave": self.leave,
        }
        chosen = only or [kind for kind in kinds if self._dice.random() < 0.4] or list(kinds)
        at = 0.0
        while (at := at + self._dice.expovariate(1 / APART_SECONDS)) < seconds:
            self._world.after(at, kinds[self._dice.choice(chosen)])

    def _crash(self, what: str) -> None:
        now = partial(self._crash_now, what)
        if self._dice.random() < 0.3:
            now()
        else:
            self._machine.trap(self._dice.randint(1, 30), self._dice.random() < 0.5, now)

    def _crash_now(self, what: str) -> None:
        front, running = self._life.front, self._life.processes
        if front is None or not running:
            return
        chosen = {"front": [front.process], "delivery": [p for p in running if p is front.child]}.get(what, running)
        for process in chosen:
            process.end(f"killed ({what})")
        if what == "power":
            self._power_cut()

    def _power_cut(self) -> None:
        for process in list(self._world.living):  # orphans too
            if process is not self._life.clients:
                process.end("the power is cut")
        self._machine.power_cut()
        self._world.note("machine", "the power is cut")
        self._life.witness.after_crash()

    def _stop_one(self) -> None:
        if running := self._life.processes:
            self._dice.choice(running).stop_for(self._dice.choice((1.0, 10.0, 60.0)))

    def _break_disk(self) -> None:
        step = self._dice.choice(("write", "sync", "rename", "sync_folder", "create", "remove", "cut", "mkdir"))
        ending = self._dice.choice(FOLDERS if step in ("sync_folder", "mkdir") else FILES)
        self._machine.break_next(
            step, self._dice.choice((errno.EIO, errno.ENOSPC)), ending, self._dice.choice((1, 1, 5))
        )

    def _fill_disk(self) -> None:
        self._machine.disk.free = self._dice.choice((0, 500, 3000))
        self._world.note("machine", f"{self._machine.disk.free} bytes are free")
        self._world.after(self._dice.uniform(0.1, 8), self._machine.make_room)

    def _slow_disk(self) -> None:
        self._machine.slow = True
        self._world.after(self._dice.uniform(0.5, 8), self._machine.hasten)

    def _upset_store(self) -> None:
        bad = self._dice.sample(MOODS, 3)
        self._store.moods = {"answer": self._dice.choice((0.0, 1.0, 3.0)), **dict.fromkeys(bad, 1.0)}
        self._world.note("store", f"feels like {self._store.moods}")
        self._world.after(self._dice.uniform(1, 20), self._soothe_store)

    def _soothe_store(self) -> None:
        self._store.moods = {"answer": 1.0}

    def _turn_clock(self) -> None:
        self._machine.wall_ms += self._dice.choice((-3_600_000, 3_600_000))
        self._world.note("machine", "the clock jumps")

    def _reload(self) -> None:
        if self._life.front is None or self._life.front.service is None:
            return
        name = self._dice.choice(self._names)
        if self._dice.random() < 0.3:
            self._life.settings.toggle(name)
        else:
            self._life.settings.redraw(name)
        self._world.note("machine", f"the configuration of {name} changes")
        self._life.front.process.call(lambda: self._do(lambda service: service.reload()))

    def _seal(self) -> None:
        name = self._dice.choice(self._names)
        if self._life.front is not None:
            self._life.front.process.call(lambda: self._do(lambda service: service.flush(name, 0)))

    def _do(self, work: Callable[[Any], Any]) -> None:
        if self._life.front is not None and self._life.front.service is not None:
            self._life.front.process.begin(self._tolerant(work(self._life.front.service)))

    async def _tolerant(self, work: Any) -> None:
        try:
            await work
        except KeyError:
            pass  # there is no such stream now

    def leave(self) -> None:
        """SIGTERM."""
        if self._life.front is not None and self._life.front.service is not None:
            self._life.front.process.begin(self._life.front.stop())
