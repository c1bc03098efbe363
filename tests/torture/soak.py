"""Half an hour of everything at once: mixed load, changing definitions, outages, a hostile store, kills.

In the first third the service, its delivery half or both are killed again and again. Then they live on, so that what
grows has time to show: memory, descriptors and threads of the last third are held against the second's. Reloads,
outages and faults go on all the while, a last kill comes at the end, and then everything is counted.

    python tests/torture/soak.py --minutes 30 --samples soak.jsonl --picture soak.svg
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import httpx
import soak_picture
from at_least import at_least
from footprint import footprint
from hostile_s3 import HostileS3
from paced_load import Load, Pace, gzipped, ingest, put_record, put_record_batch
from programs import Programs, wait_for
from stores import READERS
from whole_service import WholeService

PACES = (
    Pace("a", "web", ingest, 100, 400, 3),
    Pace("b", "web", gzipped, 100, 400, 2),
    Pace("c", "api", put_record_batch, 100, 400, 2),
    Pace("d", "api", put_record, 1, 400, 10),
    Pace("e", "web", ingest, 1, 400, 20),
    Pace("f", "guest", ingest, 10, 400, 2),  # a stream that comes and goes
    Pace("g", "large", ingest, 4, 40_000, 1),
)
SHARE = 0.3  # of the requests to the store that meet a fault while it is hostile
IN_PARTS = {"compression": "none", "multipart_threshold_mib": 5, "part_size_mib": 5}
SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
# What counts as flat: the median of the last third is at most this much above the second's, as a ratio or absolutely.
FLAT: Mapping[str, tuple[float, float]] = {"memory_mib": (1.1, 8), "descriptors": (1.1, 8), "threads": (1.1, 3)}


def definitions(store: HostileS3, dice: random.Random) -> dict[str, Any]:
    """The streams, with something about them changed each time."""
    to = store.destination
    plain = {"prefix": f"web/{dice.randrange(3)}/", "compression": dice.choice(["gzip", "zstd", "none"])}
    streams: dict[str, Any] = {
        "web": {"buffering": {"size_mib": 0.2, "interval_seconds": dice.randint(2, 6)}, "destination": to(**plain)},
        "api": {"buffering": {"size_mib": 0.1, "interval_seconds": 5}, "destination": to(prefix="api/")},
        "large": {"buffering": {"size_mib": 11, "interval_seconds": 60}, "destination": to(prefix="l/", **IN_PARTS)},
        "guest": {"buffering": {"size_mib": 1, "interval_seconds": 3}, "destination": to(prefix="guest/")},
    }
    if dice.random() < 0.5:
        del streams["guest"]
    return streams


class Soak:
    """One run. `events` are what was done, by name."""

    def __init__(self, programs: Programs, folder: Path, store: HostileS3, seed: int, seconds: float) -> None:
        self.store = store
        self.events: Counter[str] = Counter()
        self.imbalances: set[float] = set()
        self.samples: list[dict[str, Any]] = []
        self._dice = random.Random(seed)
        self._seconds = seconds
        self.service = WholeService(programs, folder / "service", self._definitions())
        self.loads = [Load(self.service.port, pace, seed + number) for number, pace in enumerate(PACES)]

    def _definitions(self) -> dict[str, Any]:
        return definitions(self.store, self._dice)

    def run(self, to: TextIO) -> None:
        self.service.start()
        for load in self.loads:
            load.start()
        began = time.monotonic()
        pause, step = max(self._seconds / 60, 1), max(self._seconds / 360, 0.2)
        while (now := time.monotonic() - began) < self._seconds:
            until = now + pause * self._dice.uniform(0.5, 1.5)
            while (now := time.monotonic() - began) < until:
                self._sample(now, to)
                time.sleep(step)
            self._next(killing=now < self._seconds / 3)()
        self._kill("both")
        if self.store.is_away:
            self.store.back()
        self.store.calm()
        for load in self.loads:
            load.stop()
        self._drain()

    def _next(self, killing: bool) -> Callable[[], None]:
        """What to do now."""
        if self.store.is_away:
            return self.store.back
        if killing and self._dice.random() < 0.5:
            return self._kill
        return self._dice.choice([self._reload, self._outage, self._faults])

    def _kill(self, whom: str = "") -> None:
        whom = whom or self._dice.choice(["delivery", "both"])
        self.events[f"kill of {whom}"] += 1
        if whom == "delivery":
            self.service.kill_delivery()
        else:
            self.service.kill()
            self.service.start()

    def _reload(self) -> None:
        self.events["reload"] += 1
        self.service.reload(self._definitions())

    def _outage(self) -> None:
        """The store goes away; it comes back by the next thing to be done."""
        self.events["outage"] += 1
        self.store.away()

    def _faults(self) -> None:
        """A store that was calm is hostile, and the other way round."""
        self.events["time of faults"] += self.store.is_calm
        self.store.hostile(SHARE) if self.store.is_calm else self.store.calm()

    def _sample(self, now: float, to: TextIO) -> None:
        taken = footprint(self.service.program.pid)
        try:
            told = {name: self.service.metric(f"firehose_{name}") for name in TOLD}
            self.imbalances.add(self.service.metric("firehose_imbalance_records"))
        except httpx.HTTPError:
            return
        acknowledged = sum(load.fates.acknowledged for load in self.loads)
        self.samples.append(
            {
                "seconds": round(now, 2),
                "memory_mib": round(taken.memory_mib, 2),
                "descriptors": taken.descriptors,
                "threads": taken.threads,
                "processes": taken.processes,
                "cpu_seconds": round(taken.cpu_seconds, 2),
                "acknowledged": acknowledged,
                **told,
                "requests_to_store": self.store.requests,
                "faults": self.store.inflicted.total(),
                "kills": sum(times for event, times in self.events.items() if event.startswith("kill")),
            }
        )
        print(json.dumps(self.samples[-1]), file=to, flush=True)

    def _drain(self) -> None:
        streams = definitions(self.store, random.Random(1))
        guest = {"guest": {"destination": self.store.destination(prefix="guest/")}}
        self.service.reload({**guest, **streams})
        wait_for(lambda: "guest" in self.service.streams(), "the guest to be there")
        for stream in ("web", "api", "large", "guest"):
            self.service.release_until_delivered(stream)  # three of the kills may have met one segment
        assert self.service.stop() == 0

    def count(self) -> list[str]:
        """What is wrong: nothing, let us hope."""
        fates = {load.pace.name: load.fates for load in self.loads}
        for name, body in self.store.shelf.objects():
            content = READERS[SUFFIXES.get(Path(name).suffix, "none")](body)
            for owner, number in re.findall(rb'"id": "([a-z])-(\d+)"', content):
                fates[owner.decode()].find(int(number))
        wrong = [f"{name}: {one}" for name, one in fates.items() if one.missing or one.doubled or one.invented]
        wrong += [f"uploads left over: {sorted(self.store.shelf.uploads)}"] if self.store.shelf.uploads else []
        wrong += [f"names given twice: {self.store.shelf.rewritten}"] if self.store.shelf.rewritten else []
        wrong += [f"imbalance: {sorted(self.imbalances)}"] if self.imbalances - {0.0} else []
        strange = {status for load in self.loads for status in load.answers} - {0, 200, 404, 400, 503}
        return wrong + ([f"answers: {strange}"] if strange else [])


TOLD = ("buffered_bytes", "delivered_records_total", "held_records", "delivery_restarts_total")


def growth(samples: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Medians of the second and of the last third."""
    end = samples[-1]["seconds"]
    second = [one for one in samples if end / 3 < one["seconds"] <= end * 2 / 3]
    last = [one for one in samples if one["seconds"] > end * 2 / 3]
    return {key: tuple(statistics.median(one[key] for one in part) for part in (second, last)) for key in FLAT}


def grown(samples: list[dict[str, Any]]) -> list[str]:
    """What is not flat."""
    return [
        f"{key} grew from {before:g} to {after:g}"
        for key, (before, after) in growth(samples).items()
        if after > max(before * FLAT[key][0], before + FLAT[key][1])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=at_least(1.0), default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=Path, default=Path("soak.jsonl"), help="where samples are written")
    parser.add_argument("--picture", type=Path, help="where they are drawn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name, options.samples.open("w") as to:
        folder = Path(name)
        with HostileS3(folder / "objects", options.seed) as store:
            with Programs(folder) as programs:
                soak = Soak(programs, folder, store, options.seed, options.minutes * 60)
                soak.run(to)
            wrong = soak.count() + grown(soak.samples)
    said = f"{report(soak)}. {'; '.join(wrong) or 'Each was delivered once, and the imbalance was always 0'}."
    print(said)
    if options.picture:
        options.picture.write_text(soak_picture.draw(soak.samples, said))
    return 1 if wrong else 0


def report(soak: Soak) -> str:
    acknowledged = sum(load.fates.acknowledged for load in soak.loads)
    events = ", ".join(f"{times} x {event}" for event, times in sorted(soak.events.items()))
    medians = ", ".join(f"{key} {before:g} -> {after:g}" for key, (before, after) in growth(soak.samples).items())
    return (
        f"{acknowledged} records acknowledged; {events}; {soak.store.inflicted.total()} faults in"
        f" {soak.store.requests} requests to the store; medians of the second and last third: {medians}"
    )


if __name__ == "__main__":
    sys.exit(main())
