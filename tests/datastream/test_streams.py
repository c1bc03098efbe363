"""Data streams through their lives: what is told is durable, what is under way is completed, nothing is lost."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from damage import files
from faulty_disk import Fault
from live_streams import ROOT, TRANSITION, StreamSite, open_shards, whole
from shard_disk import rows
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose import checked_json
from firehose.contracts import Full
from firehose.datastream.contracts import Moved
from firehose.datastream.gathering import COLUMNS
from firehose.datastream.live import HOUR_MS
from firehose.http.aws_json import ApiError
from firehose.model import NewerFormat

HASH = str(1 << 126)
Action = Callable[[StreamSite], Awaitable[object]]


async def split(site: StreamSite) -> None:
    await site.call("SplitShard", StreamName="clicks", ShardToSplit="0", NewStartingHashKey=HASH)


async def merge(site: StreamSite) -> None:
    await site.call("MergeShards", StreamName="clicks", ShardToMerge="0", AdjacentShardToMerge="1")


async def count(site: StreamSite) -> None:
    await site.call("UpdateShardCount", StreamName="clicks", TargetShardCount=3, ScalingType="UNIFORM_SCALING")


async def delete(site: StreamSite) -> None:
    await site.call("DeleteStream", StreamName="clicks")


async def create(site: StreamSite) -> None:
    await site.call("CreateStream", StreamName="other", ShardCount=3)


async def started(**defaults: Any) -> StreamSite:
    site = StreamSite(**defaults)
    await site.start()
    return site


def test_states_are_seen() -> None:
    """A stream is CREATING without shards, ACTIVE, UPDATING with the old shards, DELETING, and gone."""

    async def main() -> None:
        site = await started()
        await site.call("CreateStream", StreamName="clicks", ShardCount=2)
        stream = site.streams.named["clicks"]
        assert (stream.definition.status, stream.definition.shards) == ("CREATING", ())
        with pytest.raises(LookupError):
            stream.shard_for(0)
        await passed(TRANSITION * 2)
        assert (stream.definition.status, len(stream.definition.shards)) == ("ACTIVE", 2)
        await split(site)
        assert (stream.definition.status, len(stream.definition.shards)) == ("UPDATING", 2)
        await passed(TRANSITION * 2)
        assert (stream.definition.status, len(stream.definition.shards)) == ("ACTIVE", 4)
        await delete(site)
        assert stream.definition.status == "DELETING"
        assert "clicks" in site.streams.named
        await passed(TRANSITION * 2)
        assert site.streams.named == {}
        assert stream.gone
        assert site.disk.list(f"{ROOT}/datastreams") == ["account", "account.copy"]

    run(main())


@pytest.mark.parametrize("action", [split, merge, count])
def test_without_transitions_nothing_is_seen_between(action: Action) -> None:
    """With transition_seconds 0 a call returns when all is done."""

    async def main() -> None:
        site = await started(transition_seconds=0)
        await site.call("CreateStream", StreamName="clicks", ShardCount=2)
        stream = site.streams.named["clicks"]
        assert (stream.definition.status, len(stream.definition.shards)) == ("ACTIVE", 2)
        await action(site)
        assert stream.definition.status == "ACTIVE"
        assert stream.definition.next_shard > 2
        await delete(site)
        await passed(1)
        assert site.streams.named == {}

    run(main())


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize("action", [split, merge, count, delete, create])
@pytest.mark.parametrize("transition", [0, TRANSITION])
def test_a_crash_at_every_step(action: Action, power: bool, transition: float) -> None:
    """Wherever a process ends in the middle of a change, the next one finds the stream as it was or as it was to be,
    all of it: what was under way is completed, every record is there, and the change can be made again."""

    async def crashed_at(step: int) -> bool:
        site = StreamSite(transition_seconds=transition)
        await site.start()
        await site.create()
        await site.put("clicks", 0, b"a", b"b")
        await site.put("clicks", 1, b"c")
        before = len(site.disk.steps)
        site.disk.stop_at = before + step
        try:
            await action(site)
            told = True
        except ApiError as error:
            told = error.status != 503
        await passed(TRANSITION * 4)
        ended = len(site.disk.steps) <= before + step
        await site.crash(power, Random(step))
        assert site.reports == []
        await sound(site, action, told)
        return ended

    async def main() -> None:
        for step in range(200):
            if await crashed_at(step):
                return
        raise AssertionError("it never ends")

    run(main())


async def sound(site: StreamSite, action: Action, told: bool) -> None:
    """Each stream is as before or as after, and whole; a change that was told is done."""
    found = {name: stream.definition for name, stream in site.streams.named.items()}
    assert {one.status for one in found.values()} <= {"ACTIVE"}
    assert all(whole(open_shards(one)) for one in found.values())
    if action is delete:
        assert not (told and "clicks" in found)
    else:
        assert await site.everything("clicks", 0) == [b"a", b"b"]
        assert await site.everything("clicks", 1) == [b"c"]
    if action in (split, merge, count):
        assert not told or found["clicks"].next_shard > 2
        assert len(open_shards(found["clicks"])) in (2, {split: 3, merge: 1, count: 3}[action])
    if action is create:
        assert "other" in found or not told
    folders = [name for name in site.disk.list(f"{ROOT}/datastreams") if not name.startswith("account")]
    assert len(folders) == len(found), "nothing is left of what is gone"
    for definition in found.values():
        shard = open_shards(definition)[0]
        await site.put(definition.name, shard.number, b"new")
        assert (await site.everything(definition.name, shard.number))[-1] == b"new"


def test_a_disk_that_fails_once_is_tried_again() -> None:
    """A transition whose write fails is made a moment later; puts go on meanwhile."""

    async def main() -> None:
        site = await started()
        await site.create()
        await split(site)
        site.disk.faults.append(Fault("rename", errno.EIO, "/stream"))
        await passed(TRANSITION * 2)
        stream = site.streams.named["clicks"]
        assert stream.definition.status == "UPDATING"
        await site.put("clicks", 0, b"still taken")
        await passed(2)
        assert (stream.definition.status, len(stream.definition.shards)) == ("ACTIVE", 4)
        assert await site.everything("clicks", 0) == [b"still taken"]

    run(main())


def test_a_change_that_is_not_durable_is_not_made() -> None:
    """Where the disk fails a call is answered 503, and the stream is as before."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        before = stream.definition
        site.disk.faults.append(Fault("write", errno.ENOSPC, "/stream.new"))
        assert (await site.refused("AddTagsToStream", StreamName="clicks", Tags={"a": "b"})).status == 503
        assert stream.definition is before
        site.disk.faults.append(Fault("write", errno.ENOSPC, "/stream.new"))
        assert (await site.refused("CreateStream", StreamName="other", ShardCount=1)).status == 503
        assert list(site.streams.named) == ["clicks"]
        await site.create("other")

    run(main())


def test_appends_wait_while_a_shard_is_split() -> None:
    """An append that comes in the middle of a split hears that its shard has moved, and one that was under way before
    is in the parent; none is lost or answered wrongly."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        await split(site)
        answers: list[object] = []

        async def produce(number: int) -> None:
            for turn in range(40):
                try:
                    placed = await stream.append(0, rows(b"%d-%d" % (number, turn)))
                    answers.append((0, placed.first))
                except Moved:
                    shard = stream.shard_for(5)
                    await stream.append(shard.number, rows(b"%d-%d" % (number, turn)))
                    answers.append(shard.number)
                await passed(0.01)

        await asyncio.gather(*(produce(number) for number in range(5)))
        assert len(answers) == 200
        stored = [record for shard in (0, 2, 3) for record in await site.everything("clicks", shard)]
        assert sorted(stored) == sorted(b"%d-%d" % (number, turn) for number in range(5) for turn in range(40))
        assert 2 in answers
        assert any(isinstance(answer, tuple) for answer in answers)

    run(main())


def test_whoever_waits_for_a_change_is_woken() -> None:
    """`changed` returns at each new definition, and when the stream is gone."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        seen = stream.definition
        waiting = asyncio.create_task(stream.changed(seen))
        await passed(1)
        assert not waiting.done()
        await split(site)
        await asyncio.wait_for(waiting, 1)
        await passed(1)
        await delete(site)
        await asyncio.wait_for(stream.changed(stream.definition), 5)
        assert stream.gone

    run(main())


def test_a_name_is_free_again() -> None:
    """A stream deleted and created again has another id, none of the old records, and counters of its own."""

    async def main() -> None:
        site = await started()
        first = await site.create()
        await site.put("clicks", 0, b"old")
        await delete(site)
        assert (await site.refused("CreateStream", StreamName="clicks", ShardCount=1)).code == "ResourceInUseException"
        await passed(1)
        second = await site.create()
        assert second.definition.id != first.definition.id
        assert await site.everything("clicks", 0) == []

    run(main())


def test_a_name_is_another_streams_at_once() -> None:
    """A stream that is created in the second in which one of its name was, which is gone since, knows none of its
    sequence numbers: who kept one of them is told, and does not go on in the middle."""

    async def main() -> None:
        site = await started(transition_seconds=0)
        numbers = []
        for _ in range(3):
            await create(site)
            numbers.append(int(site.streams.named["other"].definition.shards[0].starting_number))
            await site.call("DeleteStream", StreamName="other")
            await passed(0.01)
        assert numbers == sorted(set(numbers))
        await passed(10)
        await create(site)
        assert site.streams.named["other"].definition.created_ms <= site.runtime.now_ms()

    run(main())


def test_expired_shards_drop_out() -> None:
    """A closed shard is listed until its records have expired, then it is forgotten and its files are gone."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        await site.put("clicks", 0, b"old")
        await split(site)
        await passed(1)
        await passed(23 * 3600)
        assert [one.number for one in stream.definition.shards] == [0, 1, 2, 3]
        await passed(2 * 3600)
        assert [one.number for one in stream.definition.shards] == [1, 2, 3]
        assert stream.definition.children(0), "children go on naming their parent"
        with pytest.raises(KeyError):
            stream.log(0)
        with pytest.raises(KeyError):
            await stream.append(0, rows(b"x"))
        await site.crash()
        assert [one.number for one in site.streams.named["clicks"].definition.shards] == [1, 2, 3]

    run(main())


def test_retention_changes_at_once() -> None:
    """A shorter retention hides older records at once; a longer one brings none of them back, not even after a
    restart."""

    async def main() -> None:
        site = await started(retention_hours=48)
        stream = await site.create()
        await passed(100 * 3600)
        await site.call("DecreaseStreamRetentionPeriod", StreamName="clicks", RetentionPeriodHours=24)
        now = site.runtime.now_ms()
        assert stream.horizon_ms() == now - 24 * HOUR_MS
        await site.call("IncreaseStreamRetentionPeriod", StreamName="clicks", RetentionPeriodHours=72)
        assert now <= stream.horizon_ms() + 24 * HOUR_MS <= now + 1000
        await site.crash()
        assert now <= site.streams.named["clicks"].horizon_ms() + 24 * HOUR_MS <= now + 1000
        await passed(50 * 3600)
        later = site.runtime.now_ms() - 72 * HOUR_MS
        assert site.streams.named["clicks"].horizon_ms() == max(later, now - 24 * HOUR_MS)

    run(main())


def test_a_full_stream_takes_nothing() -> None:
    """Past its limit_gib a stream refuses, until something has expired."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        stream.limit_bytes = 3000
        for _ in range(3):
            await site.put("clicks", 0, b"x" * 800)
        with pytest.raises(Full):
            await site.put("clicks", 0, b"x" * 900)
        await passed(25 * 3600)
        await site.put("clicks", 0, b"x" * 900)

    run(main())


def test_what_came_in_is_counted() -> None:
    """Records and keys are counted to the byte, also where several shards' are slices of one batch; a record without
    a key has none to count.
    """

    async def main() -> None:
        site = await started()
        await site.call("CreateStream", StreamName="clicks", ShardCount=2)
        await passed(TRANSITION * 2)
        stream = site.streams.named["clicks"]
        whole = pa.record_batch(
            [pa.array([b"abc", b"", b"de"], pa.binary()), pa.array(["é", None, "k"], pa.string())], schema=COLUMNS
        )
        await stream.append(0, whole.slice(0, 2))
        assert (stream.incoming_records, stream.incoming_bytes) == (2, 5)
        await stream.append(1, whole.slice(2, 1))
        assert (stream.incoming_records, stream.incoming_bytes) == (3, 8)

    run(main())


def test_on_demand_grows() -> None:
    """A shard of a stream on demand that takes more than 500 KB/s is split; one of a provisioned stream is not."""

    async def main() -> None:
        site = await started()
        await site.call("CreateStream", StreamName="clicks", StreamModeDetails={"StreamMode": "ON_DEMAND"})
        await site.create("fixed", 4)
        stream = site.streams.named["clicks"]
        await passed(61)
        for _ in range(35):
            for name in ("clicks", "fixed"):
                await site.put(name, 1, b"x" * 1_000_000)
        await passed(61)
        assert [one.number for one in stream.definition.shards if not one.open] == [1]
        assert len(open_shards(stream.definition)) == 5
        assert whole(open_shards(stream.definition))
        assert site.streams.named["fixed"].definition.next_shard == 4

    run(main())


@pytest.mark.parametrize("name", ["stream", "stream.copy"])
@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["flipped", "empty", "else"])
def test_a_damaged_definition_is_taken_from_the_other(name: str, content: bytes | None) -> None:
    """A definition is kept twice: what is damaged is said, and replaced by the other once and for all."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        await site.put("clicks", 0, b"a")
        path = f"{ROOT}/datastreams/{stream.definition.id}/{name}"
        whole = site.disk.read(path)
        site.disk.put(path, content) if content is not None else site.disk.flip(path, 40)
        for reported in ([path], []):
            with capture_logs() as log:
                await site.crash()
            assert [line["what"].split(":")[0] for line in log if line["event"] == "buffer.damaged"] == reported
            assert site.streams.named["clicks"].definition == stream.definition
            assert site.disk.read(path) == whole
        assert await site.everything("clicks", 0) == [b"a"]

    run(main())


def test_a_damaged_definition_on_a_full_disk() -> None:
    """Where nothing can be written the other one does, and the next start that can replaces what is damaged."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        path = f"{ROOT}/datastreams/{stream.definition.id}/stream"
        whole = site.disk.read(path)
        site.disk.put(path, b"{}")
        site.disk = site.disk.after_kill()
        site.disk.faults.append(Fault("write", errno.ENOSPC, "/stream.new"))
        with capture_logs() as log:
            await site.start()
        assert any("cannot be replaced by its copy" in line.get("what", "") for line in log)
        assert site.streams.named["clicks"].definition == stream.definition
        await site.crash()
        assert site.disk.read(path) == whole

    run(main())


def test_a_definition_that_is_damaged_twice_is_left_alone() -> None:
    """A stream whose files are both damaged is reported and not served, its folder untouched; the others are there."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        await site.create("other")
        for name in ("stream", "stream.copy"):
            site.disk.flip(f"{ROOT}/datastreams/{stream.definition.id}/{name}", 40)
        folder = dict(files(site.disk))
        with capture_logs() as log:
            await site.crash()
        assert list(site.streams.named) == ["other"]
        assert any("its stream is left as it is, and not served" in line.get("what", "") for line in log)
        assert dict(files(site.disk)) == folder

    run(main())


def test_a_newer_format_refuses_to_start() -> None:
    """A definition that a later release wrote is refused by name."""

    async def main() -> None:
        site = await started()
        stream = await site.create()
        path = f"{ROOT}/datastreams/{stream.definition.id}/stream"
        site.disk.put(path, checked_json.encode({"format": 9, "definition": "in words of the future"}))
        with pytest.raises(NewerFormat, match="format version 9"):
            await site.crash()

    run(main())


def test_stray_folders_are_untouched() -> None:
    """What is no folder of ours is not read and not removed; what a crash left of a creation is."""

    async def main() -> None:
        site = await started()
        site.disk.make_folder(f"{ROOT}/datastreams/lost+found")
        site.disk.make_folder(f"{ROOT}/datastreams/clicks-20260301T120000-0123456789abcdef")
        await site.crash()
        assert site.disk.list(f"{ROOT}/datastreams") == ["lost+found"]

    run(main())
