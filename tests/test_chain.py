"""One instance delivers into another: every record arrives once, whichever of them is killed, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import PATIENCE_SECONDS, Programs, wait_for
from whole_service import WholeService

KEY = "letme-in"
QUICK = {"size_mib": 0.002, "interval_seconds": 0.05}
BODIES, LINES = 20, 40


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


class Chain:
    """A sender whose only destination is the receiver's `/firehose/app`."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.out = folder / "out"
        taken = {"buffering": QUICK, "destination": {"type": "folder", "path": str(self.out)}}
        self.receiver = WholeService(programs, folder / "receiver", {"app": taken}, api_keys=[KEY])
        hub = {"type": "http", "url": f"{self.receiver.url}/firehose/app", "access_key": KEY}
        self.sender = WholeService(
            programs, folder / "sender", {"app": {"buffering": QUICK, "destination": {**hub, "timeout_seconds": 5}}}
        )
        self.sent: list[str] = []

    def send(self) -> None:
        """Some records, each unlike every other."""
        for _ in range(BODIES):
            lines = [f"{len(self.sent) + number:06d}" for number in range(LINES)]
            answer = self.sender.post("/ingest/app", "".join(f"{line}\n" for line in lines).encode())
            assert answer.status_code == 200, answer.text
            self.sent += lines

    def arrived(self) -> list[str]:
        files = [one for one in self.out.rglob("*") if one.is_file() and ".partial" not in one.parts]
        return sorted(line for one in files for line in one.read_text().splitlines())

    def some_arrived(self) -> None:
        """Waits until deliveries are in full swing."""
        before = self.place("delivered")
        wait_for(lambda: self.place("delivered") > before, "a delivery")

    def place(self, name: str) -> float:
        return float(self.sender.place("app")[name])

    def end(self) -> None:
        """Waits until both have delivered everything."""
        self.sender.deliver_all("app")
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = self.receiver.post(f"/v1/streams/app/flush?wait_seconds={PATIENCE_SECONDS}", b"", **headers)
        assert answer.json()["delivered"] is True
        assert self.place("dead") == 0


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.kill)])
def test_killed_in_the_middle(programs: Programs, tmp_path: Path, rounds: int) -> None:
    """Kills of the receiver, the sender and its delivery half, between and during deliveries, harm nothing."""
    chain = Chain(programs, tmp_path)
    chain.receiver.start()
    chain.sender.start()
    for _ in range(rounds):
        chain.send()
        chain.some_arrived()
        chain.receiver.kill()
        chain.send()
        chain.sender.kill()
        chain.receiver.start()
        chain.sender.start()
        chain.send()
        chain.sender.kill_delivery()
    chain.end()
    assert chain.arrived() == chain.sent


def test_a_wrong_key_ends_as_letters(programs: Programs, tmp_path: Path) -> None:
    """Past its deadline what the receiver does not take is set down as AWS writes it, and the receiver has nothing."""
    chain = Chain(programs, tmp_path)
    hub = {"type": "http", "url": f"{chain.receiver.url}/firehose/app", "access_key": "wrong"}
    errors = {"type": "folder", "path": str(tmp_path / "errors"), "prefix": "!{firehose:error-output-type}/"}
    chain.sender.write(
        {"app": {"buffering": QUICK, "destination": hub, "errors": errors, "retry": {"deadline_seconds": 0.5}}}
    )
    chain.receiver.start()
    chain.sender.start()
    chain.send()
    chain.sender.deliver_all("app")
    objects = (tmp_path / "errors/http-endpoint-failed").rglob("app-*")
    letters = [json.loads(line) for one in objects for line in one.read_text().splitlines()]
    assert len(letters) == len(chain.sent)
    assert {one["errorCode"] for one in letters} == {"HttpEndpoint.DestinationException"}
    assert min(one["attemptsMade"] for one in letters) > 1
    assert all("X-Amz-Firehose-Access-Key" in one["errorMessage"] for one in letters)
    assert chain.arrived() == []
