"""Convoys: what is put into several shards keeps step, and nobody waits for a convoy for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import virtual_time
from memory_streams import MemoryStream, MemoryStreams
from virtual_time import VirtualRuntime, passed

from firehose.contracts import Full
from firehose.datastream import gathering
from firehose.datastream.gathering import CONVOY_SECONDS, Gathering, batch_of
from firehose.datastream.model import Placed
from firehose.model import Records

Scenario = Callable[["Harbour"], Coroutine[Any, Any, None]]


class Harbour:
    """A stream whose shards' appends land when the test says so, and what is put into it."""

    def __init__(self, shards: int, name: str = "clicks") -> None:
        self.gathering = Gathering()
        self.stream: MemoryStream = MemoryStreams(VirtualRuntime()).create(name, shards)
        self.appends: list[tuple[int, int]] = []  # shard, and how many records, as they set out
        self._under_way: dict[int, list[asyncio.Future[None]]] = {shard: [] for shard in range(shards)}
        self._append = self.stream.append
        self.stream.append = self.append  # type: ignore[method-assign]

    async def append(self, shard: int, records: Records) -> Placed:
        self.appends.append((shard, records.num_rows))
        landing = asyncio.get_running_loop().create_future()
        self._under_way[shard].append(landing)
        await landing
        return await self._append(shard, records)

    def put(self, *shards: int, size_bytes: int = 1) -> list[asyncio.Future[Placed]]:
        """A request with a record for each of these shards."""
        return self.gathering.append(self.stream, [(shard, batch_of([b"x"], ["k"])) for shard in shards], size_bytes)

    def single(self, shard: int) -> asyncio.Future[Placed]:
        return self.gathering.append_single(self.stream, shard, b"x", "k")

    async def land(self, *shards: int, error: Exception | None = None) -> None:
        """The oldest append of each of these shards is durable, or fails."""
        for shard in shards:
            landing = self._under_way[shard].pop(0)
            if error is None:
                landing.set_result(None)
            else:
                landing.set_exception(error)
        await settled()

    def gone(self) -> list[tuple[int, int]]:
        """What set out since the last question."""
        gone, self.appends = self.appends, []
        return sorted(gone)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def in_harbour(scenario: Scenario, shards: int = 3) -> None:
    async def whole() -> None:
        await scenario(Harbour(shards))

    virtual_time.run(whole())


def test_the_next_grows_while_one_is_under_way() -> None:
    """And sets out once a shard of the one before is durable: each shard has one append of all that came."""

    async def scenario(harbour: Harbour) -> None:
        first = harbour.put(0, 1)
        await settled()
        assert harbour.gone() == [(0, 1), (1, 1)]
        later = [*harbour.put(0, 1), *harbour.put(1, 2), harbour.single(0)]
        await settled()
        later += harbour.put(0, 1)
        await settled()
        assert harbour.gone() == []
        await harbour.land(1)
        assert (first[0].done(), first[1].done()) == (False, True)
        assert harbour.gone() == [(0, 3), (1, 3), (2, 1)]
        await harbour.land(0, 0, 1, 2)
        assert all(one.done() for one in first + later)
        numbers = [one.result().first for one in [first[0], later[0], later[4], later[5]]]
        assert numbers == list(range(numbers[0], numbers[0] + 4)), "in the order in which they came"

    in_harbour(scenario)


def test_one_that_meets_nobody_sets_out_at_once() -> None:
    """So does what is for one shard alone: that waits in the shard itself for the commit before."""

    async def scenario(harbour: Harbour) -> None:
        harbour.put(0, 1)
        await settled()
        harbour.put(2, 3)
        await settled()
        assert harbour.gone() == [(0, 1), (1, 1), (2, 1), (3, 1)]
        harbour.put(3)
        await settled()
        harbour.single(3)
        await settled()
        assert harbour.gone() == [(3, 1), (3, 1)]

    in_harbour(scenario, shards=4)


def test_other_streams_are_not_waited_for() -> None:
    """Each stream has convoys of its own."""

    async def scenario(harbour: Harbour) -> None:
        other = Harbour(2, "views")
        other.gathering = harbour.gathering
        harbour.put(0, 1)
        await settled()
        other.put(0, 1)
        await settled()
        assert other.gone() == [(0, 1), (1, 1)]

    in_harbour(scenario)


def test_none_waits_for_long() -> None:
    """A disk that does not answer holds up a convoy for a moment: it then asks the shards, which may refuse."""

    async def scenario(harbour: Harbour) -> None:
        harbour.put(0, 1)
        await settled()
        second = harbour.put(0, 1)
        await passed(CONVOY_SECONDS - 0.01)
        assert harbour.gone() == [(0, 1), (1, 1)]
        await passed(0.02)
        assert harbour.gone() == [(0, 1), (1, 1)]
        harbour.put(0, 1)
        await passed(CONVOY_SECONDS + 0.01)
        assert harbour.gone() == [(0, 1), (1, 1)], "the one before it is under way all the same"
        assert not any(one.done() for one in second)

    in_harbour(scenario)


def test_a_full_one_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded in bytes, too."""
    monkeypatch.setattr(gathering, "CONVOY_BYTES", 100)

    async def scenario(harbour: Harbour) -> None:
        harbour.put(0, 1)
        await settled()
        harbour.gone()
        harbour.put(0, 1, size_bytes=60)
        await settled()
        assert harbour.gone() == []
        harbour.put(0, 1, size_bytes=60)
        await settled()
        assert harbour.gone() == [(0, 2), (1, 2)]

    in_harbour(scenario)


@pytest.mark.parametrize("error", [Full("no room"), RuntimeError("a bug")])
def test_a_shard_that_fails(error: Exception) -> None:
    """Its own hear of it, those beside it are stored, and the next sets out."""

    async def scenario(harbour: Harbour) -> None:
        first = harbour.put(0, 1)
        await settled()
        second = harbour.put(0, 1)
        await harbour.land(0, error=error)
        assert first[0].exception() is error
        assert harbour.gone() == [(0, 1), (0, 1), (1, 1), (1, 1)]
        await harbour.land(1, 0, 1)
        assert [one.exception() for one in (first[1], *second)] == [None] * 3

    in_harbour(scenario)


@pytest.mark.parametrize("waiting", [True, False])
def test_a_service_that_ends(waiting: bool) -> None:
    """Nobody is left waiting, neither for what is under way nor for what was to follow."""

    async def scenario(harbour: Harbour) -> None:
        puts = harbour.put(0, 1)
        await settled()
        if waiting:
            puts += harbour.put(0, 1)
            await settled()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settled()
        assert all(one.cancelled() for one in puts)
        harbour.gone()
        harbour.put(0, 1)
        await settled()
        assert harbour.gone() == [(0, 1), (1, 1)], "and nothing is left that would be waited for"

    in_harbour(scenario)
