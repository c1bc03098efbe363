"""Pulls the plug in the middle of `firehose put` of a large file, again and again, and goes on as the tool says.

SIGKILL of the service and its delivery process, and every other time of the client as well. The service is started
again, and the file posted from where its records end: the client says which two places these can be, the service how
many records it has. At the end every line of the file lies at the destination, once.

    python tests/torture/plug.py --megabytes 1000 --pulls 6 --seed 7
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from at_least import at_least
from valve import Valve, valve
from verdict import Verdict, judged, say
from victim import ROOT, Victim

LINE_BYTES = 512  # each, so that a count of records is a place in the file
BODY_KIB = 64
SIZE_MIB = 1.0
PULL_MEGABYTES = 2  # between two pulls: in less a moment may lie behind what is let through


@dataclass(slots=True)
class Put:
    """`firehose put` of one file into one service, by a way that lets only so much of it through."""

    victim: Victim
    file: Path
    way: Valve
    said: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self, offset: int) -> None:
        command = [sys.executable, "-m", "firehose.cli", "put", "app", str(self.file), "--from", str(offset)]
        command += ["--url", self.way.url, "--body-kib", str(BODY_KIB)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def ended(self) -> int:
        assert self._process is not None
        self.said = self._process.communicate(timeout=600)[0]
        return self._process.returncode

    def places(self) -> set[int]:
        """Where to go on, by what it said; empty where it could say nothing."""
        return {int(place) for place in re.findall(r"--from (\d+)", self.said)}


def pull(folder: Path, megabytes: int, pulls: int, seed: int, say: Callable[[str], None]) -> Verdict:
    """Posts a file of that size over that many ends of the world; what the count found."""
    dice, verdict = random.Random(seed), Verdict()
    victim = Victim(folder / "victim", seed, verdict, size_mib=SIZE_MIB)
    try:
        with valve(victim.port) as way:
            lines = _pulled(Put(victim, folder / "lines", way), megabytes, pulls, dice, say)
        victim.end()
    finally:
        victim.close()
    _count(folder, lines, verdict)
    return verdict


def _pulled(put: Put, megabytes: int, pulls: int, dice: random.Random, say: Callable[[str], None]) -> int:
    """The file's lines, all of them posted in the end."""
    victim = put.victim
    lines = _write(put.file, megabytes * 1_000_000 // LINE_BYTES)
    victim.up()
    for number in range(1, pulls + 1):
        goals = (lines * number // (pulls + 1), lines * (number + 1) // (pulls + 1))
        _interrupted(put, *goals, also_the_client=number % 2 == 0, dice=dice)
        victim.verdict.struck("client too" if number % 2 == 0 else "service", 1, victim.up())
        say(f"pull {number}: {victim.stream('app')['accepted']} of {lines} lines stored")
    put.way.opened(inf)
    put.start(_place(put))
    if put.ended():
        victim.verdict.complain(f"put failed: {put.said}")
    return lines


def _write(file: Path, lines: int) -> int:
    """A file of that many lines, each with its number."""
    with file.open("w") as out:
        for number in range(lines):
            told = f'{{"n":"{number:012d}","pad":"'
            out.write(f'{told:.<{LINE_BYTES - 3}}"}}\n')
    return lines


def _interrupted(put: Put, goal: int, next_goal: int, also_the_client: bool, dice: random.Random) -> None:
    """Posts from where the records end until there are about so many, then ends everything at once. However late that
    is seen, no more than half of what lies before the next goal is posted by then.
    """
    victim, place = put.victim, _place(put)
    put.way.opened((goal + next_goal) // 2 * LINE_BYTES - place)
    put.start(place)
    goal += dice.randrange(1000)
    victim.wait_for(lambda: not put.running or victim.stream("app")["accepted"] >= goal, "that much to be put")
    assert put.running, f"put ended too early: {put.ended()}, {put.said}"
    if also_the_client:
        put.kill()
    victim.kill_delivery()
    victim.kill_service()
    assert put.ended() != 0, f"it was acknowledged by nobody: {put.said}"


def _place(put: Put) -> int:
    """Where the records that the service has end in the file: one of the places that the client has named."""
    place = int(put.victim.stream("app")["accepted"]) * LINE_BYTES
    if put.places() and place not in put.places():
        put.victim.verdict.complain(f"{place // LINE_BYTES} lines are stored, and the client said: {put.said}")
    return place


def _count(folder: Path, lines: int, verdict: Verdict) -> None:
    times = bytearray(lines)
    for path in sorted((folder / "victim/out").rglob("*.gz")):
        if ".partial" not in path.parts:
            for number in re.findall(rb'"n":"(\d+)"', gzip.decompress(path.read_bytes())):
                times[int(number)] = min(255, times[int(number)] + 1)
    found = Counter({str(number): count for number, count in enumerate(times) if count != 1})
    verdict.acknowledged += lines
    verdict.delivered += sum(times)
    verdict.missing += [number for number, count in found.items() if not count]
    verdict.doubled += [number for number, count in found.items() if count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=at_least(1), default=100)
    parser.add_argument("--pulls", type=at_least(0), default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.megabytes < (least := PULL_MEGABYTES * (options.pulls + 1)):
        parser.error(f"argument --megabytes: {least} at least for {options.pulls} pulls")
    return judged(
        "plug",
        f"{options.megabytes} MB, seed {options.seed}",
        lambda folder: pull(folder, options.megabytes, options.pulls, options.seed, say),
    )


if __name__ == "__main__":
    sys.exit(main())
