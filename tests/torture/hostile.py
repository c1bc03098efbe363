"""The whole service against an S3 store that fails it at every step: nothing is lost, doubled, or left behind.

Two streams, one of small objects and one of multipart uploads, are loaded for a while, and now and then the delivery
half is killed at what it does. Every acknowledged line is remembered. Then the store is calm, and the stream must go on
by itself: all lines are there, once; no upload is left over, no segment is held, no object was given its name twice.

    python tests/torture/hostile.py --minutes 10 --seed 7
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from hostile_s3 import BEFITTING, HostileS3
from oracle import Count, access_log, count
from programs import Programs, wait_for
from whole_service import WholeService

SHARE = 0.35  # of the requests that meet a fault
SMALL = {"buffering": {"size_mib": 0.02, "interval_seconds": 1}}
LARGE = {"buffering": {"size_mib": 11, "interval_seconds": 2}}
IN_PARTS = {"compression": "none", "multipart_threshold_mib": 5, "part_size_mib": 5}
UNDELIVERED_BYTES = 64 << 20  # the load waits for the store from there on


class Torment:
    """One service and one store. `sent` are the lines that were acknowledged, by stream."""

    def __init__(self, programs: Programs, folder: Path, store: HostileS3, seed: int) -> None:
        self.store = store
        self.sent: dict[str, list[str]] = {"small": [], "large": []}
        self.kills = 0
        self._dice = random.Random(seed)
        self.service = WholeService(programs, folder / "service", self._streams())
        self._small = iter(lambda: access_log(400, seed=self._dice.randrange(1 << 40)), None)
        self._large = _long_lines(self._dice)

    def _streams(self) -> dict[str, Any]:
        to = self.store.destination
        return {
            "small": {**SMALL, "destination": to(prefix="small/")},
            "large": {**LARGE, "destination": to(prefix="large/", **IN_PARTS)},
        }

    def run(self, seconds: float, *, everything: bool = False, kills: float = 0) -> None:
        """Loads the service while the store is hostile, for so long, or until every fault was met.

        `kills` is the chance of each round that the delivery half is killed in the middle of it.
        """
        self.service.start()
        self.store.hostile(SHARE)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (everything and self.missed() == set()):
            self._post("small", next(self._small))
            self._post("large", next(self._large))
            if self._dice.random() < kills:
                self.service.kill_delivery()
                self.kills += 1
            wait_for(self._has_room, "the store to take what was sent", 300)
        self.store.calm()
        for stream in self.sent:
            assert not self.service.place(stream).get("held"), f"held: {self._said('segment.held')}"
            self.service.deliver_all(stream)
        assert self.service.stop() == 0

    def _post(self, stream: str, lines: list[str]) -> None:
        answer = self.service.post(f"/ingest/{stream}", "".join(f"{line}\n" for line in lines).encode())
        assert answer.status_code == 200, answer.text
        self.sent[stream] += map(_mark, lines)

    def _has_room(self) -> bool:
        return self.service.metric("firehose_buffered_bytes") < UNDELIVERED_BYTES

    def _said(self, event: str) -> list[str]:
        """What its log says of an event."""
        return [line for line in self.service.program.log.read_text().splitlines() if f'"{event}"' in line]

    def missed(self) -> set[str]:
        return set(BEFITTING) - set(self.store.inflicted)

    def found(self) -> Count:
        there: list[str] = []
        for name, body in self.store.shelf.objects():
            text = (gzip.decompress(body) if name.endswith(".gz") else body).decode()
            there += map(_mark, text.split("\n")[:-1])
        return count([line for lines in self.sent.values() for line in lines], there)

    def check(self) -> None:
        """Raises AssertionError where the far side is not as it should be."""
        found = self.found()
        assert found.exact, str(found)
        assert self.store.shelf.uploads == {}, f"uploads left over: {self.store.shelf.uploads.keys()}"
        assert self.store.shelf.rewritten == [], f"names given twice: {self.store.shelf.rewritten}"


def _mark(line: str) -> str:
    """What tells a line from all others: it is long lines that there are many bytes of."""
    return line if len(line) < 1000 else hashlib.sha256(line.encode()).hexdigest()


def _long_lines(dice: random.Random) -> Iterator[list[str]]:
    """A MiB that no compression makes smaller, again and again."""
    while True:
        yield [base64.b64encode(dice.randbytes(48 << 10)).decode() for _ in range(16)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=float, default=0.02, help="chance per round of a kill of the delivery half")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        with HostileS3(folder / "objects", options.seed) as store:
            try:
                with Programs(folder) as programs:
                    torment = Torment(programs, folder, store, options.seed)
                    torment.run(options.minutes * 60, kills=options.kills)
                    torment.check()
            finally:
                faults = ", ".join(f"{name} {times}" for name, times in sorted(store.inflicted.items()))
                print(f"seed {options.seed}: {store.requests} requests, {store.inflicted.total()} faults: {faults}")
            lines = sum(map(len, torment.sent.values()))
            print(f"  {lines} lines, {torment.kills} kills: missing 0, doubled 0, uploads left over 0, held 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
