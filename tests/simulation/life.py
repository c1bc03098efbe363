"""One seed's life of the whole service: a time of trouble, then calm.

In calm every fault stops, what was held is released, and all that was taken must be delivered within `CALM_SECONDS`
of virtual time, and more be taken. The witness complains of broken promises whenever something happens; what the
service says of itself is looked at again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from simulation import witness as witnesses
from simulation.halves import Doors, Front, SimulatedService
from simulation.machine import Machine
from simulation.senders import FED, Senders
from simulation.settings import PLACES, Settings
from simulation.stage import installed
from simulation.store import Store
from simulation.trouble import Trouble
from simulation.witness import Witness
from simulation.world import Process, World
from virtual_time import passed

from firehose.blocks import MIB
from firehose.buffer import ledger
from firehose.standing import PlaceStanding, StreamStanding

TROUBLE_SECONDS = (10.0, 60.0)
CALM_SECONDS = 900.0
START_SECONDS = 120.0
TASKS = 200  # of one process, at the most


class Simulation:
    """The service under one seed's trouble. `run` raises `Violation` at the first broken promise.

    `doors` are the service's to the world; `only` confines the trouble to some kinds of it.
    """

    def __init__(self, seed: int, doors: Callable[[Machine], Doors] = Doors, only: tuple[str, ...] = ()) -> None:
        self.world = World(seed)
        self.dice = self.world.dice
        self.machine = Machine(self.world, seed)
        self.witness = Witness(self.world, self.machine, PLACES)
        self.store = Store(self.world, self.machine.step, self.witness.store)
        self.store.condition = self.dice.choice(("kept", "kept", "ignored", "refused"))
        self.settings = Settings(self.dice)
        self.clients = Process(self.world, "clients")
        self.front: Front | None = None
        self.in_trouble = True
        self._only = only
        self._doors = doors(self.machine)
        self._side_by_side = seed % 2 == 1
        self._fronts = 0
        self._delivered = False
        self._senders = Senders(self, tuple(name for name in PLACES if name != FED))
        self._trouble = Trouble(self, list(PLACES))

    def run(self) -> None:
        with installed(self.world, self.store, self._side_by_side):
            try:
                for _ in range(self.dice.randint(1, 5)):
                    self.clients.begin(self._senders.client())
                self._start()
                seconds = self.dice.uniform(*TROUBLE_SECONDS)
                self._trouble.schedule(seconds, self._only)
                self.world.run(lambda: False, seconds)
                self._calm_down()
            finally:
                self.world.close()

    # The processes.

    def _start(self) -> None:
        self._fronts += 1
        process = Process(self.world, f"front-{self._fronts}")
        process.at_end.append(lambda: self._restart(process))
        self.front = Front(process, self._doors, self.settings.load, self._ready)

    def _ready(self, front: Front) -> None:
        front.process.begin(self._senders.feed(front))
        front.process.begin(self._look(front))

    def _restart(self, ended: Process) -> None:
        """Somebody always starts it again."""
        self.witness.after_crash()
        if self.front is not None and self.front.process is ended:
            self.front = None
            self.world.after(self.dice.choice((0.001, 0.1, 2.0)), self._start)

    async def _look(self, front: Front) -> None:
        """Looks at the books and the bounds, again and again."""
        while True:
            await asyncio.sleep(self.dice.choice((0.5, 5.0)))
            if (service := front.service) is None:
                return
            self._check(await service.standings())
            self._check_bounds(front, service.in_flight_bytes)

    def _check(self, standings: list[StreamStanding]) -> None:
        """Nothing is unaccounted for. A segment may be delivered before the front can count it as sealed: its folder's
        sync takes long, or fails, and a new delivery half finds the file; so more than all is no fault until calm.
        """
        for stream in standings:
            for place in stream.places:
                if place.imbalance > 0 or place.totals.damaged or place.totals.dead:
                    self._unbalanced(f"{stream.name}: {place}")

    def _check_bounds(self, front: Front, in_flight_bytes: int) -> None:
        limit = int(self.settings.in_flight_mib * MIB)
        if not 0 <= in_flight_bytes <= limit:
            self.world.violated(witnesses.BOUNDED, f"{in_flight_bytes} bytes in flight of {limit}")
        for process in (front.process, front.child):
            if process is not None and process.tasks > TASKS:
                self.world.violated(witnesses.BOUNDED, f"{process.name} has {process.tasks} tasks")

    @property
    def processes(self) -> list[Process]:
        """Of the service, the orphans aside."""
        front = self.front
        return [process for process in (front.process, front.child) if process and process.alive] if front else []

    # Calm.

    def _calm_down(self) -> None:
        self.in_trouble = False
        self.world.note("machine", "all trouble ends")
        self.machine.mend()
        self.store.moods = {"answer": 1.0}
        for process in self.world.living:
            process.stopped_until = 0.0
        self._require(self._is_ready, START_SECONDS, "the service starts")
        self._require_delivery()
        self._require_intake()
        before = self._fronts
        self._trouble.leave()
        self._require(lambda: self._fronts > before and self._is_ready(), START_SECONDS, "the service restarts")
        self._require_delivery()
        orphans = [process.name for process in self.world.living if process not in (self.clients, *self.processes)]
        if orphans:
            self.world.violated(witnesses.BOUNDED, f"{orphans} have no parent, and live on")
        self.witness.conclude()
        if self.world.violation:
            raise self.world.violation

    def _require_delivery(self) -> None:
        self._delivered = False
        self._see_to_delivery(None)
        self._require(lambda: self._delivered, CALM_SECONDS, "everything is delivered")

    def _require_intake(self) -> None:
        self.clients.begin(self._senders.after_trouble())
        self._require(lambda: self._senders.taken_after_trouble, START_SECONDS, "records are taken again")
        self._require(lambda: not self._in_flight_bytes(), START_SECONDS, "nothing is in flight")

    def _in_flight_bytes(self) -> int:
        return self.front.service.in_flight_bytes if self.front and self.front.service else 0

    def _see_to_delivery(self, asked: Front | None) -> None:
        """Asks the front that runs, and the next one where it was told to leave before."""
        front = self.front
        if front is not None and front is not asked and front.service is not None:
            asked = front
            front.process.begin(self._deliver_all(front))
        if not self._delivered:
            self.world.after(1.0, lambda: self._see_to_delivery(asked))

    def _is_ready(self) -> bool:
        return self.front is not None and self.front.service is not None

    def _require(self, what: Callable[[], bool], seconds: float, said: str) -> None:
        if not self.world.run(what, seconds):
            self.world.violated(witnesses.PROGRESS, f"not within {seconds:g} s: {said}")
            assert self.world.violation is not None
            raise self.world.violation

    async def _deliver_all(self, front: Front) -> None:
        """Seals everything and has what is held tried again, until nothing is left."""
        while not self._delivered:
            await passed(1.0)
            if (service := front.service) is None:
                return
            standings = await service.standings()
            self._check(standings)
            if all(stream.places and all(_done(place) for place in stream.places) for stream in standings):
                self._compare(standings)
                self._delivered = True
            for stream in standings:
                await service.flush(stream.name, 0)
            if any(place.held for stream in standings for place in stream.places):
                await self._release(service)

    async def _release(self, service: SimulatedService) -> None:
        book, _ = ledger.read_book(self.machine.disk, "/data/ledger")
        for stream, lane, first in sorted({key for key, _ in book.held}):
            await service.release(f"{stream}/{lane}/{first:020d}")

    def _compare(self, standings: list[StreamStanding]) -> None:
        """The service's own counts against what is really there."""
        for stream in standings:
            known = sum(stream.name == name for name in self.witness.acknowledged.values())
            said = f"{stream.name}: {known} acknowledged, {stream.accepted} accepted"
            size_bytes = self.machine.disk.tree_bytes(f"/data/buffer/{stream.name}")
            if stream.buffered_bytes > size_bytes:
                self._unbalanced(f"{said}, {stream.buffered_bytes} bytes buffered, {size_bytes} on disk")
            for place in stream.places:
                delivered, stored = place.totals.delivered, len(self.witness.stored[place.destination])
                if place.imbalance or not known <= stream.accepted == delivered == stored:
                    self._unbalanced(f"{said}, {delivered} delivered to {place.destination}, {stored} stored there")

    def _unbalanced(self, what: str) -> None:
        self.world.violated(witnesses.CONSERVATION, what)


def _done(place: PlaceStanding) -> bool:
    return not (place.buffered or place.held)
