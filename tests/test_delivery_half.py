"""The delivery half over the real disk, told what to do by messages, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from zlib import crc32

import moody
import pyarrow as pa
import pytest
from data_folder import DataFolder
from structlog.testing import capture_logs
from virtual_time import passed, run

import destinations
from firehose.contracts import Refused, Retry
from firehose.delivery_half import AGAIN_SECONDS, DeliveryHalf, Message
from firehose.model import NewerFormat, Outcome


@pytest.fixture(autouse=True)
def _third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])


def place(half: DeliveryHalf, stream: str = "app") -> Message:
    (found,) = [one for one in half.stats()["places"] if one["stream"] == stream]
    return dict(found)


async def killed(half: DeliveryHalf) -> None:
    """As a kill leaves it: no task runs on, the lock is free, nothing more is written."""
    for task in half._running | {task for one in half._deliveries.values() for task in one._tasks}:
        task.cancel()
    await asyncio.sleep(0)
    assert half._lock is not None
    half._lock.close()


async def settle(seconds: float = 1.0) -> None:
    await passed(seconds)


def test_takes_up_what_lies_there(tmp_path: Path) -> None:
    """What was sealed before the start is delivered, removed and told; all of it is accounted for."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("a", "b")
        await house.seal("c")
        async with house.delivering() as half:
            await settle()
            told = place(half)
        assert moody.delivered(tmp_path) == ["a", "b", "c"]
        assert (told["totals"]["delivered"], told["pending"], told["held"]) == (3, 0, 0)
        assert house.sealed_files() == []
        assert [len(house.heard(kind)) for kind in ("ready", "removed")] == [1, 2]

    run(scene())


def test_takes_up_what_is_announced_once(tmp_path: Path) -> None:
    """An announced segment is delivered; announced again, or found by a rescan as well, it is delivered once."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        async with house.delivering() as half:
            announcement = await house.seal("a")
            for message in (announcement, announcement, {"do": "rescan"}):
                await half.handle(message)
            await settle()
            await half.handle(announcement)
            await settle()
            assert place(half)["totals"]["delivered"] == 1
        assert moody.delivered(tmp_path) == ["a"]

    run(scene())


def test_lost_announcements_are_made_up_for_by_a_rescan(tmp_path: Path) -> None:
    """Segments that nobody announced are found when it is told to look, and never before."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        async with house.delivering() as half:
            for number in range(5):
                await house.seal(str(number))
            await settle()
            assert moody.delivered(tmp_path) == []
            await half.handle({"do": "rescan"})
            await settle()
        assert moody.delivered(tmp_path) == list("01234")

    run(scene())


def test_all_refused_segment_leaves_no_data_object(tmp_path: Path) -> None:
    """A segment of nothing but refused records is one error object in the default place, and no data object."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("bad", "worse", refused="Broken: no JSON")
        async with house.delivering() as half:
            await settle()
            assert place(half)["totals"] == {"dead": 2}
        assert moody.delivered(tmp_path) == []
        (file,) = [path for path in (tmp_path / "data/errors/app").rglob("*") if path.is_file()]
        assert len(file.read_text().splitlines()) == 2

    run(scene())


def test_restart_goes_on_with_the_same_segment(tmp_path: Path) -> None:
    """What one delivery half could not deliver the next one does, whatever had been tried, once."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        moody.feel(tmp_path, "busy")
        await house.seal("a")
        async with house.delivering() as half:
            await settle(100)
            assert place(half)["last_error"] == "moody is busy"
        moody.feel(tmp_path, "good")
        async with house.delivering() as half:
            await settle()
        async with house.delivering() as half:
            await settle()
            assert place(half)["totals"]["delivered"] == 1
        assert moody.delivered(tmp_path) == ["a"]

    run(scene())


def test_held_stays_held_until_released(tmp_path: Path) -> None:
    """A held segment is not tried again by a reload or a restart, but by its release, with a clean record."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        moody.feel(tmp_path, "broken")
        announcement = await house.seal("a")
        async with house.delivering() as half:
            await settle()
            assert place(half)["held"] == 1
        moody.feel(tmp_path, "good")
        async with house.delivering() as half:
            await half.handle({"do": "reload"})
            await settle(1000)
            assert (place(half)["held"], place(half)["pending"]) == (1, 1)
            for number in (7, 8):
                await half.handle({**announcement, "do": "release", "id": number})
            await settle()
            assert place(half)["totals"]["delivered"] == 1
        assert [(one["id"], one["destinations"]) for one in house.heard("released")] == [(7, ["moody"]), (8, [])]

    run(scene())


def test_deaths_are_counted_over_processes(tmp_path: Path) -> None:
    """A segment that was being tried at three deaths of the process is held, and not before."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        moody.feel(tmp_path, "good")
        announcement = await house.seal("a")
        key = announcement["segment"]
        for death in range(3):
            half = house.half()
            await half.start(died=death > 0)
            assert half._shelf is not None
            half._shelf.ledger.append({"t": "trying", "s": key, "d": "moody"})
            await killed(half)
        async with house.delivering(died=True) as last:
            await settle()
            assert place(last)["held"] == 1
            assert "died 3 times" in place(last)["last_error"]

    run(scene())


def test_restart_of_the_whole_service_blames_nobody(tmp_path: Path) -> None:
    """What was being tried when the whole service ended is under no suspicion."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        key = (await house.seal("a"))["segment"]
        half = house.half()
        await half.start(died=False)
        assert half._shelf is not None
        half._shelf.ledger.append({"t": "trying", "s": key, "d": "moody"})
        await half.close()
        async with house.delivering(died=False) as half:
            assert half._shelf is not None
            assert half._shelf.ledger.book.deaths == {}
            await settle()
        assert moody.delivered(tmp_path) == ["a"]

    run(scene())


def test_drain_delivers_what_it_can_and_ends_early(tmp_path: Path) -> None:
    """A drain ends as soon as nothing is left to try: what can be delivered is, what fails stays."""

    async def scene() -> None:
        well, sick = tmp_path / "well", tmp_path / "sick"
        house = DataFolder(tmp_path, well={"destination": moody.block(well)}, sick={"destination": moody.block(sick)})
        sick.mkdir()
        moody.feel(sick, "busy")
        for number in range(5):
            await house.seal(str(number), stream="well")
            await house.seal(str(number), stream="sick")
        async with house.delivering() as half:
            await half.handle({"do": "drain", "seconds": 30})
            await settle()
            assert house.heard("drained")
            assert place(half, "sick")["pending"] == 5
        assert moody.delivered(well) == list("01234")

    run(scene())


def test_drain_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that takes longer than the drain may is left, and the drain says that it is done."""

    async def forever(*_: object) -> None:
        await passed(1e6)

    monkeypatch.setattr(moody.Moody, "deliver", forever)

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("a")
        async with house.delivering() as half:
            await settle()
            await half.drain(5)
            assert asyncio.get_running_loop().time() == pytest.approx(6, abs=0.2)
        assert len(house.sealed_files()) == 1

    run(scene())


def test_drain_with_nothing_to_do_is_done(tmp_path: Path) -> None:
    """An idle delivery half drains in no time."""

    async def scene() -> None:
        async with DataFolder(tmp_path).delivering() as half:
            await half.drain(30)
            assert asyncio.get_running_loop().time() < 0.1

    run(scene())


def test_reload_follows_a_removed_destination(tmp_path: Path) -> None:
    """What was sealed for a destination that is gone from the file is still delivered there; new segments are not."""

    async def scene() -> None:
        one, two = moody.block(tmp_path / "one", name="one"), moody.block(tmp_path / "two", name="two")
        house = DataFolder(tmp_path, app={"destinations": [one, two]})
        await house.seal("a")
        house.follow(app={"destinations": [one]})
        await house.seal("b")
        async with house.delivering():
            await settle()
        assert moody.delivered(tmp_path / "one") == ["a", "b"]
        assert moody.delivered(tmp_path / "two") == ["a"]

    run(scene())


def test_missing_secret_waits_and_recovers_after_reload(tmp_path: Path) -> None:
    """A reference that does not resolve says so by name and holds up nothing else; a reload after it is mended
    delivers at once.
    """

    async def scene() -> None:
        secret = tmp_path / "secret"
        secret.write_text(str(tmp_path / "keyed" / "out"))
        keyed = {**moody.block(tmp_path), "path": f"${{file:{secret}}}"}
        house = DataFolder(tmp_path, app={"destination": keyed}, other={"destination": moody.block(tmp_path)})
        secret.unlink()
        await house.seal("a")
        await house.seal("b", stream="other")
        async with house.delivering() as half:
            await settle(500)
            assert "secret" in place(half)["last_error"]
            assert moody.delivered(tmp_path) == ["b"]
            secret.write_text(str(tmp_path / "keyed" / "out"))
            await half.handle({"do": "reload"})
            await settle(0.5)
        assert moody.delivered(tmp_path / "keyed") == ["a"]

    run(scene())


def test_message_that_cannot_be_followed_is_made_up_for(tmp_path: Path) -> None:
    """A message that a failing disk spoils ends nothing: it looks again by itself until it has seen all."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        async with house.delivering() as half:
            announcement = await house.seal("a")
            (file,) = (tmp_path / "data/buffer").rglob("*.sealed")
            catalogue = tmp_path / "data/catalog"
            kept = catalogue.read_bytes()
            catalogue.write_text("{")
            file.rename(file.with_suffix(".away"))
            await half.handle({"do": "reload"})
            await half.handle(announcement)
            catalogue.write_bytes(kept)
            file.with_suffix(".away").rename(file)
            await settle(AGAIN_SECONDS + 1)
        assert moody.delivered(tmp_path) == ["a"]

    run(scene())


class Unready:
    """A hook that is not ready, and counts how often it was asked."""

    name = "clean"
    payload_bytes = at_once = 1

    def __init__(self) -> None:
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.asked == 2:
            await asyncio.sleep(1000)
        raise Refused("no such module")

    async def outcome(self, rows: pa.RecordBatch) -> Outcome:
        raise Retry("not ready")

    async def close(self) -> None:
        """Nothing is held."""


def test_hooks_are_tried_at_start_and_at_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that is not ready is a warning at each of them, and keeps the delivery half from nothing; a look that
    takes long is given up for the next.
    """
    hook = Unready()
    monkeypatch.setattr("firehose.registry.transform", lambda *_: hook)

    async def scene() -> None:
        transforms = [{"type": "python", "handler": "a:b"}]
        house = DataFolder(tmp_path, app={"destination": moody.block(tmp_path), "transforms": transforms})
        async with house.delivering() as half:
            assert house.heard("ready")
            await settle(0.1)
            for _ in range(2):
                await half.handle({"do": "reload"})
                await settle(0.1)

    with capture_logs() as logs:
        run(scene())
    assert [one["reason"] for one in logs if one["event"] == "hook.not_ready"] == ["no such module"] * 2
    assert hook.asked == 3


def test_waits_for_the_lock(tmp_path: Path) -> None:
    """While another delivery half is at work on the folder a new one waits, and takes over when it has ended."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("a")
        moody.feel(tmp_path, "busy")
        first = house.half()
        await first.start(False)
        second = house.half()
        starting = asyncio.create_task(second.start(False))
        await settle(5)
        assert not starting.done()
        moody.feel(tmp_path, "good")
        await first.close()
        await starting
        await settle()
        await second.close()
        assert moody.delivered(tmp_path) == ["a"]

    run(scene())


def test_waiting_for_the_lock_can_be_given_up(tmp_path: Path) -> None:
    """A delivery half that waits for the lock closes at once."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        async with house.delivering():
            second = house.half()
            starting = asyncio.create_task(second.start(False))
            await settle()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await second.close()

    run(scene())


def test_newer_ledger_is_refused_by_name(tmp_path: Path) -> None:
    """A ledger that a later release wrote is not guessed at: the start fails and names what would read it."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        async with house.delivering():
            pass
        ledger = tmp_path / "data/ledger"
        said = b'{"ledger":5}'
        ledger.write_bytes(b"%08x %s\n" % (crc32(said), said))
        half = house.half()
        with pytest.raises(NewerFormat, match="format version 5"):
            await half.start(False)
        await half.close()
        assert ledger.read_bytes().endswith(said + b"\n"), "it is left as it was"

    run(scene())
