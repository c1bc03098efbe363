"""Dead letters of a real service come back to it once: killed in the middle, side by side, chosen twice, damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest
from cli.running import failing, firehose
from programs import Program, Programs
from valve import Valve, valve
from whole_service import WholeService

TESTS = 12  # there may be that many in this file
MANY = 6_000  # letters in small bodies
REPLAY = [sys.executable, "-m", "firehose.cli", "dead-letters", "replay"]
SLOWLY = ("--body-kib", "1")
SIP_BYTES = 4 * MANY  # of the 14 that a letter has at least


class House:
    """One test's share of a service: a stream whose destination can be blocked, and another one beside it."""

    def __init__(self, service: WholeService, root: Path, stream: str) -> None:
        self.service = service
        self.stream = stream
        self.other = f"{stream}-other"
        self.root = root / stream

    @staticmethod
    def streams(root: Path, name: str) -> dict[str, Any]:
        def folder(*parts: str, **keys: str) -> dict[str, str]:
            return {"type": "folder", "path": str(root.joinpath(name, *parts)), **keys}

        never = {"size_mib": 64, "interval_seconds": 3600}
        errors = folder("errors", prefix="!{firehose:error-output-type}/")
        failing = {"destination": folder("out"), "errors": errors, "retry": {"deadline_seconds": 0.1}}
        return {
            name: {**failing, "buffering": never},
            f"{name}-other": {"destination": folder("other"), "buffering": never},
        }

    def block(self) -> None:
        """Nothing can be delivered where a file stands in the folder's place."""
        self.root.mkdir(exist_ok=True)
        (self.root / "out").write_text("in the way")

    def unblock(self) -> None:
        (self.root / "out").unlink()

    def fail(self, *records: bytes) -> None:
        """Has these records become dead letters, of one object."""
        self.block()
        answer = self.service.post(f"/ingest/{self.stream}", b"".join(record + b"\n" for record in records))
        assert answer.status_code == 200, answer.text
        self.service.deliver_all(self.stream)
        self.unblock()

    def replay(self, *arguments: str | Path) -> Any:
        """Runs the command to its end; what it says in JSON, with its exit code."""
        done = firehose("dead-letters", "replay", *self._ours, "--json", *map(str, arguments))
        said: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return {**said, "exit": done.exit_code, "told": done.stderr}

    def start_replay(self, *arguments: str) -> Program:
        """A replay that can be killed."""
        program = self.service.programs.new("replay", [*REPLAY, *self._ours, *arguments])
        program.start()
        return program

    @property
    def _ours(self) -> tuple[str, ...]:
        return ("-c", str(self.service.file), "--stream", self.stream)

    def wait_for_quarter(self, quarter: int, program: Program, way: Valve) -> None:
        """Returns once so many quarters of the letters are back. Little passes from one look to the next."""

        def back() -> bool:
            way.opened(SIP_BYTES)
            return self.accepted() > MANY * (1 + quarter / 4)

        program.wait_until(back, f"to replay {quarter} quarters")

    def accepted(self) -> int:
        return int(self.service.stream(self.stream)["accepted"])

    def records(self, stream: str = "", folder: str = "out") -> list[bytes]:
        """All that is delivered of the stream, sorted. Its books balance."""
        self.service.deliver_all(stream or self.stream)
        files = [file for file in (self.root / folder).rglob("*") if file.is_file()]
        return sorted(line for file in files for line in file.read_bytes().splitlines())

    def letter_file(self) -> Path:
        (file,) = (file for file in (self.root / "errors").rglob("*") if file.is_file())
        return file


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WholeService, Path]]:
    """One for all tests, which have streams of their own."""
    root = tmp_path_factory.mktemp("service")
    streams = {name: block for number in range(TESTS) for name, block in House.streams(root, f"app-{number}").items()}
    with Programs(root) as programs:
        one = WholeService(programs, root, streams)
        one.start()
        yield one, root


@pytest.fixture
def house(service: tuple[WholeService, Path], number: Iterator[int]) -> House:
    one, root = service
    return House(one, root, f"app-{next(number)}")


@pytest.fixture(scope="module")
def number() -> Iterator[int]:
    return count()


def numbered(size: int) -> list[bytes]:
    return [b"record %06d" % number for number in range(size)]


def test_broken_mended_replayed(house: House) -> None:
    """What could not be delivered is delivered after the replay, once; a second replay finds all of it known."""
    sent = numbered(50)
    house.fail(*sent)
    said = house.replay()
    assert (said["exit"], said["replayed"], said["known"], said["refused"]) == (0, 50, 0, 0)
    assert list(said["reasons"].values()) == [50]
    assert house.records() == sent
    said = house.replay()
    assert (said["exit"], said["replayed"], said["known"]) == (0, 0, 50)
    assert house.records() == sent


def test_replay_killed(house: House) -> None:
    """A replay that is killed in its middle, twice, and run again brings every letter once."""
    sent = numbered(MANY)
    house.fail(*sent)
    with valve(house.service.port) as way:
        for quarter in (1, 2):
            program = house.start_replay(*SLOWLY, "--url", way.url)
            house.wait_for_quarter(quarter, program, way)
            program.kill()
    before = house.accepted()
    assert before < 2 * MANY, "the kills met the middle"
    said = house.replay()
    assert (said["exit"], said["replayed"] + said["known"], house.accepted()) == (0, MANY, 2 * MANY)
    assert before - MANY <= said["known"] < MANY, "what was under way at the kill is taken a moment later"
    assert house.records() == sent


def test_service_killed(house: House) -> None:
    """A service that is killed under a replay, twice, and started again has every letter once, of the same run."""
    sent = numbered(MANY)
    house.fail(*sent)
    with valve(house.service.port) as way:
        program = house.start_replay(*SLOWLY, "--url", way.url)
        for quarter in (1, 2):
            house.wait_for_quarter(quarter, program, way)
            house.service.kill()
            house.service.start()
        assert house.accepted() < 2 * MANY, "the kills met the middle"
        way.opened(inf)
        assert program.wait() == 0, program.tail()
    assert "waiting: " in program.tail()
    assert house.records() == sent
    assert house.replay()["known"] == MANY


def test_side_by_side(house: House) -> None:
    """Replays at one time, of all letters and of some, bring every letter once between them."""
    sent = numbered(MANY)
    house.fail(*sent)
    rivals = [house.start_replay(*SLOWLY), house.start_replay(*SLOWLY, "--where", "line > 1000")]
    assert [rival.wait() for rival in rivals] == [0, 0]
    assert house.records() == sent


def test_where(house: House) -> None:
    """Conditions choose letters; where two overlap, what both choose comes once."""
    sent = numbered(100)
    house.fail(*sent)
    said = house.replay("--where", "line <= 60")
    assert (said["exit"], said["replayed"], said["known"]) == (0, 60, 0)
    said = house.replay("--where", "line > 40 and reason is not null")
    assert (said["exit"], said["replayed"], said["known"]) == (0, 40, 20)
    assert house.replay("--where", "size_bytes = 0")["letters"] == 0
    assert house.records() == sent


def test_into_another_stream(house: House) -> None:
    """Each stream takes a letter once: one that had it says nothing about another; names decide, not the way there."""
    sent = numbered(20)
    house.fail(*sent)
    assert house.replay("--to", house.other)["replayed"] == 20
    assert house.replay("--to", house.other, "--from", house.root / "errors")["known"] == 20
    assert house.replay("--from", house.letter_file())["replayed"] == 20
    assert house.records(house.other, "other") == house.records() == sent


def test_dry_run(house: House) -> None:
    """A dry run counts by reason what would come and what is known, and changes nothing."""
    house.fail(*numbered(20))
    house.replay("--where", "line <= 5")
    said = house.replay("--dry-run")
    assert (said["exit"], said["replayed"], said["known"], sum(said["reasons"].values())) == (0, 15, 5, 20)
    assert house.accepted() == 25


def test_what_fails_again(house: House) -> None:
    """Letters that fail again are new letters: the run that brought them ends, and the next one brings them."""
    sent = numbered(30)
    house.fail(*sent)
    house.block()
    assert house.replay()["replayed"] == 30
    house.service.deliver_all(house.stream)
    house.unblock()
    said = house.replay()
    assert (said["replayed"], said["known"]) == (30, 30)
    assert house.records() == sent


def test_damaged_letters(house: House) -> None:
    """A letter damaged by hand is told with its place and passed over; once it is mended it comes, and it alone."""
    sent = numbered(40)
    house.fail(*sent)
    file = house.letter_file()
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:7], lines[7].replace(b'"rawData":"', b'"rawData":"!!'), *lines[8:]]))
    said = house.replay()
    assert (said["exit"], said["replayed"]) == (1, 39)
    assert [one["line"] for one in said["damage"]] == [8]
    assert "1 damaged places" in said["told"]
    file.write_bytes(whole)
    said = house.replay()
    assert (said["exit"], said["replayed"], said["known"]) == (0, 1, 39)
    assert house.records() == sent


def test_mistakes(house: House) -> None:
    """Mistakes of the command end with 2 and say what to mend; what the service refuses ends with 1."""
    house.fail(*numbered(2))
    assert house.replay("--body-kib", "0")["exit"] == 2
    said = house.replay("--where", "nonsense = 1")
    assert (said["exit"], "nonsense" in said["told"]) == (1, True)
    assert "--from" in failing("dead-letters", "replay", status=2)
    said = house.replay("--to", "nobody")
    assert (said["exit"], "no delivery stream 'nobody'" in said["told"]) == (1, True)
    said = house.replay("--url", "http://127.0.0.1:1", "--patience-seconds", "0")
    assert (said["exit"], "run it again" in said["told"]) == (1, True)
    assert house.accepted() == 2
