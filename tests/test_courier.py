"""The way to the delivery half: messages that never block, a process that may die, hang or be stopped at any time.

The processes are real, and so is their time; what a test waits for is what is said of it, or a process that ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from zlib import crc32

import moody
import pytest
import structlog
from data_folder import DataFolder
from programs import PATIENCE_SECONDS

import destinations
from firehose import config, courier
from firehose.buffer.disk import LocalDisk
from firehose.config import Config
from firehose.courier import Asked, Courier, Inline, Process
from firehose.delivery_half import Message
from firehose.model import SegmentKey
from firehose.runtime import Runtime

ROOT = Path(__file__).parent.parent
FOR_EVER_SECONDS = 100_000.0
EAGER = {"backoff_seconds": 0.05, "backoff_limit_seconds": 0.1, "probe_seconds": 0.2}


class Listening(Asked):
    """Has news whenever the delivery half says a word, or ends: what a test waits for shows then at the latest."""

    def __init__(self, removed: Callable[[SegmentKey], None], ready: Callable[[], None]) -> None:
        super().__init__(removed, ready)
        self.news = asyncio.Event()

    def heard(self, message: Message) -> None:
        super().heard(message)
        self.news.set()

    def ended(self, why: str) -> None:
        super().ended(why)
        self.news.set()


class Site:
    """A data folder with a courier over it, and what the courier was told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = DataFolder(root)
        self.removed: list[SegmentKey] = []
        self.ready = 0
        self.asked = Listening(self.removed.append, self._count)

    def _count(self) -> None:
        self.ready += 1

    def config(self) -> Config:
        service = config.ServiceOptions(data_dir=str(self.root / "data"), log_format="json", log_level="error")
        return Config("test", service, config.DeliveryOptions.model_validate(EAGER), {}, {})

    async def seal(self, over: Courier, *records: str) -> SegmentKey:
        """Seals and announces."""
        over.send(await self.folder.seal(*records))
        stream, lane, first = self.folder.send[-1]["segment"]
        return (stream, lane, first)

    def delivered(self) -> list[str]:
        return moody.delivered(self.root)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks again with every word of the delivery half: of what it has delivered it says so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self.asked.news.clear()
                await self.asked.news.wait()

    async def until_told(self, process: Process, **wanted: int) -> Message:
        """What it says of its only place, once that is as wanted: asked anew with every answer, for of what it holds
        it says nothing unasked.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await self.until(lambda: process.up)
                for place in (await process.stats() or {"places": []})["places"]:
                    if all(place[name] == value for name, value in wanted.items()):
                        return dict(place)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Processes started in a test know the moody destination, as if a third party had installed it."""
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import destinations, moody\ndestinations.TABLE.update(moody.TABLE)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (shim, ROOT, ROOT / "tests/support"))))
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])
    monkeypatch.setattr(courier, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(courier, "ANSWER_SECONDS", PATIENCE_SECONDS)
    return Site(tmp_path)


@asynccontextmanager
async def working(site: Site) -> AsyncIterator[Process]:
    process = Process(site.config(), site.asked)
    await process.start()
    try:
        await site.until(lambda: process.up)
        yield process
    finally:
        await process.stop(PATIENCE_SECONDS)


def child(process: Process) -> int:
    assert process._child is not None
    return process._child.pid


def lock_is_free(data: Path) -> bool:
    with (data / "delivery.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def pending(said: Message | None) -> int:
    return sum(place["pending"] for place in said["places"]) if said else -1


async def test_process_delivers_and_tells(site: Site) -> None:
    """What is announced is delivered by the process, which says what it removed and how it stands."""
    async with working(site) as process:
        keys = [await site.seal(process, "a", "b"), await site.seal(process, "c")]
        await site.until(lambda: len(site.removed) == 2)
        said = await process.stats()
        assert said is not None
        assert said["places"][0]["totals"]["delivered"] == 3
        assert (process.trouble, process.restarts) == ("", 0)
    assert sorted(site.removed) == sorted(keys)
    assert site.delivered() == ["a", "b", "c"]
    assert process._child is not None
    assert process._child.returncode == 0


async def test_stats_know_all_that_was_sent_before(site: Site) -> None:
    """The answer to a question counts every segment that was announced before it."""
    moody.feel(site.root, "busy")
    async with working(site) as process:
        for number in range(5):
            await site.seal(process, str(number))
            assert pending(await process.stats()) == number + 1


async def test_release_is_answered(site: Site) -> None:
    """A held segment is tried again when it is released; what is not held is refused in words."""
    moody.feel(site.root, "sulky")
    async with working(site) as process:
        key = await site.seal(process, "a")
        await site.until_told(process, held=1)
        moody.feel(site.root, "good")
        assert await process.release(key) == ["moody"]
        await site.until(lambda: site.delivered() == ["a"])
        with pytest.raises(ValueError, match="not held"):
            await process.release(key)


async def test_stop_delivers_what_it_can(site: Site) -> None:
    """What was announced just before the stop is delivered, also where the process was only starting."""
    process = Process(site.config(), site.asked)
    await process.start()
    for number in range(5):
        await site.seal(process, str(number))
    await process.stop(PATIENCE_SECONDS)
    assert site.delivered() == list("01234")


async def test_stop_leaves_what_fails(site: Site) -> None:
    """A stop does not wait for what cannot be delivered: it stays in the buffer."""
    moody.feel(site.root, "busy")
    async with working(site) as process:
        await site.seal(process, "a")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.stop(FOR_EVER_SECONDS)
    assert len(site.folder.sealed_files()) == 1


async def test_killed_process_comes_back_and_loses_nothing(site: Site) -> None:
    """Kill -9 of the delivery process in the midst of its work: all is delivered, once, and intake never knew. No
    segment meets two of the kills: at three it would be held.
    """
    async with working(site) as process:
        for number in range(60):
            await site.seal(process, f"{number:02d}")
            if number % 20 == 10:
                await site.until(lambda: len(site.delivered()) >= number - 10)  # noqa: B023 - awaited at once
                os.kill(child(process), signal.SIGKILL)
                restarts = process.restarts
                await site.until(lambda: process.restarts > restarts and process.up)  # noqa: B023 - awaited at once
        await site.until(lambda: len(site.delivered()) >= 60)
    assert site.delivered() == [f"{number:02d}" for number in range(60)]
    assert process.restarts == 3
    assert site.ready == 4


async def test_flush_outlives_the_process(site: Site) -> None:
    """What is gathered by partition is cut though the process was killed before it heard of the flush."""
    out, runtime = site.root / "out", site.folder.runtime
    runtime.wall_ms += Runtime().now_ms() - runtime.now_ms()  # what is sealed is new to the process, too
    prefix = "c=!{partitionKeyFromQuery:c}/"
    stream = {"dynamic_partitioning": {"queries": {"c": ".c"}}, "buffering": {"interval_seconds": 900}}
    site.folder.follow(app={**stream, "destination": {"type": "folder", "path": str(out), "prefix": prefix}})
    async with working(site) as process:
        await site.seal(process, '{"c":"a"}')
        await site.until_told(process, pending=1)
        os.kill(child(process), signal.SIGSTOP)
        process.send({"do": "flush", "stream": "app"})
        os.kill(child(process), signal.SIGKILL)
        await site.until(lambda: len(site.removed) == 1)
        assert [path.parent.name for path in out.rglob("app-*")] == ["c=a"]
        assert await process.stats() is not None
        assert process._flushes == {}


async def test_segment_that_kills_the_process_is_held_and_the_innocent_delivered(site: Site) -> None:
    """A segment whose delivery ends the process is set aside after the third death; those beside it are delivered."""
    for record in ("a", "deadly", "b", "c"):
        await site.folder.seal(record)
    process = Process(site.config(), site.asked)
    await process.start()
    place = await site.until_told(process, held=1, pending=1)
    assert site.delivered() == ["a", "b", "c"]
    assert place["totals"]["delivered"] == 3
    assert "died 3 times" in place["last_error"]
    await site.seal(process, "d")
    await site.until(lambda: "d" in site.delivered())
    await process.stop(PATIENCE_SECONDS)
    assert process.restarts == 3


async def test_stopped_process_slows_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process under SIGSTOP is asked in vain once; later questions are answered with nothing almost at once; when
    it goes on it answers again.
    """
    monkeypatch.setattr(courier, "ANSWER_SECONDS", 0.4)
    async with working(site) as process:
        os.kill(child(process), signal.SIGSTOP)
        assert await process.stats() is None
        assert process.trouble == "it does not answer"
        monkeypatch.setattr(courier, "ANSWER_SECONDS", FOR_EVER_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [await process.stats() for _ in range(3)] == [None] * 3
        with pytest.raises(ValueError, match="does not answer"):
            await process.release(("app", "lane", 0))
        os.kill(child(process), signal.SIGCONT)
        await site.until(lambda: process.trouble == "")
        assert await process.stats() is not None


async def test_full_pipe_is_made_up_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcements that a stopped process does not read are dropped at the bound; when it reads on, everything is
    delivered without another word.
    """
    monkeypatch.setattr(courier, "PIPE_BYTES", 1000)
    async with working(site) as process:
        os.kill(child(process), signal.SIGSTOP)
        unknown = {"do": "sealed", "segment": ("app", "x" * 900, 0)}
        for _ in range(300):
            process.send(unknown)
        assert process._child is not None
        assert process._child.stdin is not None
        assert process._child.stdin.transport.get_write_buffer_size() < 400_000
        for number in range(20):
            await site.seal(process, f"{number:02d}")
        os.kill(child(process), signal.SIGCONT)
        await site.until(lambda: len(site.delivered()) == 20)
    assert process.restarts == 0


async def test_full_pipe_of_a_killed_process_is_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed with its pipe full has a successor that starts like any other."""
    monkeypatch.setattr(courier, "PIPE_BYTES", 1000)
    async with working(site) as process:
        os.kill(child(process), signal.SIGSTOP)
        for _ in range(300):
            process.send({"do": "sealed", "segment": ("app", "x" * 900, 0)})
        await site.seal(process, "a")
        os.kill(child(process), signal.SIGKILL)
        await site.until(lambda: site.delivered() == ["a"])
        await site.seal(process, "b")
        await site.until(lambda: site.delivered() == ["a", "b"])
    assert process.restarts == 1


async def test_start_does_not_wait_for_the_lock(site: Site) -> None:
    """While another delivery half holds the folder intake runs, and is told why nothing is delivered."""
    other = LocalDisk().lock(f"{site.root}/data/delivery.lock")
    assert other is not None
    process = Process(site.config(), site.asked)
    await process.start()
    await site.seal(process, "a")
    assert (process.up, process.trouble, await process.stats()) == (False, "it is starting", None)
    other.close()
    await site.until(lambda: site.delivered() == ["a"])
    await process.stop(PATIENCE_SECONDS)


async def test_process_that_cannot_start_says_why_and_is_tried_again(site: Site) -> None:
    """A ledger of a later release keeps the process from starting: the reason is there to be told and logged, the
    wait grows, and mending it is enough.
    """
    ledger, said = site.root / "data/ledger", b'{"ledger":5}'
    ledger.write_bytes(b"%08x %s\n" % (crc32(said), said))
    process = Process(site.config(), site.asked)
    with structlog.testing.capture_logs() as logs:
        await process.start()
        await site.seal(process, "a")
        await site.until(lambda: process.restarts >= 1)
    assert "format version 5" in process.trouble
    died = [line for line in logs if line["event"] == "delivery.died"]
    assert "format version 5" in died[0]["why"]
    ledger.unlink()
    await site.until(lambda: site.delivered() == ["a"])
    assert process.trouble == ""
    await process.stop(PATIENCE_SECONDS)


async def test_process_that_cannot_be_made_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the service lives on, says so, and tries again."""
    process = Process(site.config(), site.asked)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        await process.start()
        await site.seal(process, "a")
        assert "cannot be started" in process.trouble
    await site.until(lambda: site.delivered() == ["a"])
    await process.stop(PATIENCE_SECONDS)


async def test_stop_while_nothing_can_be_started(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop between two starts ends at once."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(courier, "RESTART_SECONDS", FOR_EVER_SECONDS)
    process = Process(site.config(), site.asked)
    await process.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await process.stop(FOR_EVER_SECONDS)


async def test_hanging_process_is_killed_at_the_stop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that neither drains nor ends when its pipe closes does not outlive the service."""
    monkeypatch.setattr(courier, "ANSWER_SECONDS", 0.2)
    async with working(site) as process:
        os.kill(child(process), signal.SIGSTOP)
        await process.stop(0.2)
        assert process._child is not None
        assert process._child.returncode == -signal.SIGKILL
    assert lock_is_free(site.root / "data")


async def test_process_that_talks_nonsense_is_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what the process says cannot be followed it does not run on unheard: another takes its place."""
    async with working(site) as process:
        with pytest.MonkeyPatch.context() as broken:

            def misheard(message: Message) -> None:
                broken.undo()
                raise KeyError(message["say"])

            broken.setattr(site.asked, "heard", misheard)
            monkeypatch.setattr(courier, "ANSWER_SECONDS", FOR_EVER_SECONDS)
            async with asyncio.timeout(PATIENCE_SECONDS):  # nobody waits for an answer of the dead
                assert await process.stats() is None
        await site.seal(process, "a")
        await site.until(lambda: site.delivered() == ["a"])


async def test_orphan_ends_by_itself(site: Site) -> None:
    """When the service is killed its delivery process ends too, and the folder is free for the next."""
    script = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from test_courier import Site, child
        from firehose.courier import Process

        async def main():
            site = Site(Path({str(site.root)!r}))
            process = Process(site.config(), site.asked)
            await process.start()
            await site.until(lambda: process.up)
            print(child(process), flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT / "tests")])
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    orphan = os.pidfd_open(int(await parent.stdout.readline()))
    assert not lock_is_free(site.root / "data")
    parent.kill()
    await parent.wait()
    assert select.select([orphan], [], [], PATIENCE_SECONDS)[0], "it outlives its service"
    os.close(orphan)
    assert lock_is_free(site.root / "data")


@pytest.mark.parametrize("said", [b"", b'{"do": "hello", "data_'], ids=["nothing", "half a message"])
async def test_parent_that_dies_early(said: bytes) -> None:
    """A service that is killed while it starts leaves a delivery process that ends in peace."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firehose.delivery_half", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate(said)
    assert (process.returncode, complaint) == (0, b"")


async def test_orphan_in_line_for_the_lock_ends_by_itself(site: Site) -> None:
    """A delivery process whose service is killed while another one is at work does not wait for its turn."""
    lock = LocalDisk().lock(str(site.root / "data/delivery.lock"))
    assert lock is not None
    config = site.config()
    hello = {
        "do": "hello",
        "data_dir": config.service.data_dir,
        "region": "us-east-1",
        "account_id": "000000000000",
        "delivery": config.delivery.model_dump(),
        "died": False,
        "log_format": "json",
        "log_level": "error",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firehose.delivery_half", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        said, _ = await process.communicate(json.dumps(hello).encode() + b"\n")
    assert (process.returncode, said) == (0, b"")
    lock.close()


async def test_terminal_signals_do_not_reach_the_process(site: Site) -> None:
    """Signals that a terminal or a supervisor sends to the whole group are the service's to handle."""
    async with working(site) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child(process), number)
        await site.seal(process, "a")
        await site.until(lambda: site.delivered() == ["a"])
    assert process.restarts == 0


def inline(site: Site) -> Inline:
    return Inline(site.config(), LocalDisk(), Runtime(), site.asked)


async def test_inline_delivers_and_tells(site: Site) -> None:
    """In the service's own loop it is the same: announced, delivered, told, drained at the stop."""
    half = inline(site)
    await half.start()
    await site.until(lambda: half.up)
    await site.seal(half, "a")
    await site.until(lambda: len(site.removed) == 1)
    assert pending(await half.stats()) == 0
    await site.seal(half, "b")
    await half.stop(PATIENCE_SECONDS)
    assert site.delivered() == ["a", "b"]
    assert (half.up, half.trouble) == (False, "it has been stopped")


async def test_inline_start_does_not_wait_for_the_lock(site: Site) -> None:
    """Inline too intake runs while another delivery half holds the folder; a stop meanwhile ends at once."""
    other = LocalDisk().lock(f"{site.root}/data/delivery.lock")
    assert other is not None
    first, second = inline(site), inline(Site(site.root))
    await first.start()
    await second.start()
    await site.seal(first, "a")
    assert (first.up, await first.stats()) == (False, None)
    await second.stop(FOR_EVER_SECONDS)
    other.close()
    await site.until(lambda: site.delivered() == ["a"])
    await first.stop(PATIENCE_SECONDS)


async def test_inline_that_cannot_start_says_why_and_is_tried_again(site: Site) -> None:
    """What keeps the delivery half from starting does not keep the service from taking records."""
    ledger, said = site.root / "data/ledger", b'{"ledger":5}'
    ledger.write_bytes(b"%08x %s\n" % (crc32(said), said))
    half = inline(site)
    await half.start()
    await site.seal(half, "a")
    await site.until(lambda: "format version 5" in half.trouble)
    ledger.unlink()
    await site.until(lambda: site.delivered() == ["a"])
    await half.stop(PATIENCE_SECONDS)


async def test_question_without_answer_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are forgotten with their time-out, and late answers to them disturb nobody."""
    monkeypatch.setattr(courier, "ANSWER_SECONDS", 0.01)
    asked = Asked(lambda key: None, lambda: None)
    asked.heard({"say": "ready"})
    sent: list[Message] = []
    assert await asked.ask(sent.append, {"do": "stats"}) is None
    asked.heard({"say": "stats", "id": sent[0]["id"], "places": []})
    assert asked._waiting == {}
    assert asked.trouble == "", "it has been heard again"


async def test_answers_find_their_questions() -> None:
    """Questions under way together get each its own answer, in whatever order they come."""
    asked = Asked(lambda key: None, lambda: None)
    asked.heard({"say": "ready"})
    sent: list[Message] = []
    asking = [asyncio.create_task(asked.ask(sent.append, {"do": "stats"})) for _ in range(3)]
    await asyncio.sleep(0)
    for question in reversed(sent):
        asked.heard({"say": "stats", "id": question["id"], "n": question["id"] * 10})
    answers = [await task for task in asking]
    assert [answer["n"] for answer in answers if answer] == [question["id"] * 10 for question in sent]
