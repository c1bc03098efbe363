"""Deliveries by the HTTP endpoint protocol are taken once: through repeats, rivals, failing disks and crashes."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from disk_buffer import STREAM, DiskBuffer, drained
from faulty_disk import Fault
from virtual_time import START_MS, Inline, passed, run

from firehose.http.admission import Admission
from firehose.http.auth import Keys
from firehose.http.wire import Head, Reply
from firehose.ingest.dialects.firehose_delivery import RECORDS_LIMIT, Deliveries
from firehose.ingest.intake import Intake
from firehose.ingest.remembered import SLOT_IDS, SLOTS_LIMIT
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin

HOUR = 3600.0


@dataclass
class House:
    """One stream, its buffer, and the dialect over it."""

    buffer: DiskBuffer = field(default_factory=DiskBuffer)
    options: SplitOptions = field(default_factory=SplitOptions)
    strict: bool = False
    keys: tuple[bytes, ...] = ()
    body_limit: int = 1 << 20
    slots_limit: int = SLOTS_LIMIT
    intakes: dict[str, Intake] = field(default_factory=dict)
    admission: Admission = field(default_factory=lambda: Admission(1 << 24))

    async def open(self) -> None:
        """Over the buffer as it stands now: anew after a crash, which takes the dialect's own memory with it."""
        room = self.buffer.appender.make_sure_of_room
        self.intakes[STREAM] = Intake(STREAM, self.buffer.appender, self.options, self.strict, room=room)
        self.intakes["kafka"] = Intake("kafka", self.buffer.appender, SplitOptions(), source="kafka")
        keys, limit = Keys(self.keys), self.body_limit
        now_ms = self.buffer.runtime.now_ms
        self.dialect = Deliveries(
            self.intakes,
            Inline(0.001),
            keys.admit,
            self.admission,
            now_ms,
            int(24 * HOUR * 1000),
            limit,
            limit,
            self.slots_limit,
        )

    async def crash(self, power: bool = False) -> None:
        await self.buffer.crash(power)
        await self.open()

    async def ask(self, body: bytes, **given: Any) -> Reply:
        asked = head(**given)
        route = self.dialect.route()
        return route.begin(asked) or await route.finish(asked, body)

    async def deliver(self, id: str, *records: bytes) -> int:
        """The status of a request in good order, whose answer is too."""
        reply = await self.ask(body_of(id, *records), id=id)
        said = json.loads(reply.body)
        assert dict(reply.headers)[b"content-type"] == b"application/json"
        assert said["requestId"] == id
        assert said["timestamp"] >= START_MS
        assert set(said) - {"requestId", "timestamp"} == (set() if reply.status == 200 else {"errorMessage"})
        return reply.status

    async def stored(self) -> list[bytes]:
        await self.buffer.appender.seal()
        return await drained(self.buffer.outbox())


def head(
    id: str = "one", stream: str = STREAM, method: str = "POST", headers: dict[bytes, bytes] | None = None
) -> Head:
    return Head(method, f"/firehose/{stream}", b"", {b"x-amz-firehose-request-id": id.encode(), **(headers or {})})


def body_of(id: str, *records: bytes, **changed: object) -> bytes:
    data = [{"data": b64encode(one).decode()} for one in records]
    return json.dumps({"requestId": id, "timestamp": START_MS, "records": data, **changed}).encode()


def in_house(scenario: Callable[[House], Awaitable[None]], house: House | None = None) -> None:
    async def whole() -> None:
        made = house or House()
        await made.buffer.start()
        await made.open()
        await scenario(made)

    run(whole())


def test_once_and_byte_for_byte() -> None:
    """Records are stored as they are, in order, with no delimiter; a repeat is answered alike and stores nothing."""

    async def scenario(house: House) -> None:
        odd = (b"\x00\xff\n\n", b"no newline", b"")
        for _ in range(3):
            assert await house.deliver("one", *odd) == 200
        assert await house.deliver("two", *odd) == 200
        assert await house.stored() == [*odd, *odd]

    in_house(scenario)


def test_gzip() -> None:
    """A body may be gzip, as the protocol has it."""

    async def scenario(house: House) -> None:
        reply = await house.ask(gzip.compress(body_of("one", b"a")), headers={b"content-encoding": b"gzip"})
        assert reply.status == 200
        assert await house.stored() == [b"a"]

    in_house(scenario)


def test_second_copy_waits_for_the_first() -> None:
    """Copies that come while the first is being committed are answered with it, and store nothing."""

    async def scenario(house: House) -> None:
        asked = [asyncio.ensure_future(house.deliver("one", b"a")) for _ in range(5)]
        await passed(0)
        assert not any(one.done() for one in asked)
        assert await asyncio.gather(*asked) == [200] * 5
        assert await house.stored() == [b"a"]

    in_house(scenario)


def test_second_copy_of_one_that_fails() -> None:
    """Where the first copy is not stored, one of those that waited is, and only one."""

    async def scenario(house: House) -> None:
        house.buffer.disk.faults.append(Fault("create"))
        answers = await asyncio.gather(*(house.deliver("one", b"a") for _ in range(4)))
        assert answers[0] == 503
        while await house.deliver("one", b"a") != 200:
            await passed(0.1)
        assert await house.stored() == [b"a"]

    in_house(scenario)


def test_given_up_in_the_middle() -> None:
    """A request whose sender stops waiting is stored to its end, and its repeat is known."""

    async def scenario(house: House) -> None:
        gone = asyncio.ensure_future(house.deliver("one", b"a"))
        await passed(0)
        gone.cancel()
        assert await house.deliver("one", b"a") == 200
        assert await house.stored() == [b"a"]

    in_house(scenario)


def test_side_by_side() -> None:
    """Different requests at one time are committed together, and each is known afterwards, restarted or not."""

    async def scenario(house: House) -> None:
        ids = [f"r{number}" for number in range(3 * SLOT_IDS)]
        assert set(await asyncio.gather(*(house.deliver(id, id.encode()) for id in ids))) == {200}
        for _ in range(2):
            assert set(await asyncio.gather(*(house.deliver(id, id.encode()) for id in ids))) == {200}
            await house.crash()
        assert sorted(await house.stored()) == sorted(id.encode() for id in ids)

    in_house(scenario)


@pytest.mark.parametrize("failing", ["write", "sync", "sync_folder", "create"])
@pytest.mark.parametrize("crash_after", [None, 0, 1, 20])
@pytest.mark.parametrize("power", [True, False])
def test_unsure(failing: str, crash_after: int | None, power: bool) -> None:
    """Sent again and again beside others while the disk fails, through a crash at any time, each is stored once."""

    async def scenario(house: House) -> None:
        ids = [f"r{number}" for number in range(4)]
        await house.deliver("r0", b"r0")
        house.buffer.disk.faults.append(Fault(failing))
        tries = 0
        left = set(ids)
        while left:
            order = sorted(left)
            answers = await asyncio.gather(*(house.deliver(id, id.encode()) for id in order))
            assert set(answers) <= {200, 503}
            left -= {id for id, status in zip(order, answers, strict=True) if status == 200}
            if left and tries == crash_after:
                await house.crash(power)
                left = set(ids)
            tries += 1
            await house.deliver(f"other{tries}", b"other")
            await passed(0.1)
        await house.crash(power)
        assert [await house.deliver(id, id.encode()) for id in ids] == [200] * 4
        assert sorted(one for one in await house.stored() if one != b"other") == [id.encode() for id in ids]

    in_house(scenario)


def test_known_after_its_segment_is_gone() -> None:
    """A request is known after its records were delivered and the service restarted, again and again."""

    async def scenario(house: House) -> None:
        await house.deliver("one", b"a")
        assert await house.stored() == [b"a"]
        for power in (False, True, False, True):
            await house.crash(power)
            assert await house.deliver("one", b"a") == 200
        assert await house.stored() == []

    in_house(scenario)


@pytest.mark.parametrize("restarted", [True, False])
def test_forgotten_after_a_day(restarted: bool) -> None:
    """An id is known for so many hours at least; beyond them its slot is used anew, and the memory does not grow."""

    async def scenario(house: House) -> None:
        for number in range(3 * SLOT_IDS):
            await house.deliver(f"r{number}", b"x")
        await house.deliver("mine", b"mine")
        await passed(23.9 * HOUR)
        if restarted:
            await house.crash()
        await house.deliver("mine", b"mine")
        assert (await house.stored()).count(b"mine") == 1
        await passed(0.2 * HOUR)
        await house.deliver("mine", b"mine")
        for number in range(3 * SLOT_IDS):
            await house.deliver(f"s{number}", b"x")
        assert (await house.stored()).count(b"mine") == 1
        assert len(house.buffer.appender.origins()) == 4

    in_house(scenario)


def test_bounded_memory() -> None:
    """Where more requests come in a day than are remembered, they are taken, and the oldest ids are forgotten early."""

    async def scenario(house: House) -> None:
        for number in range(4 * SLOT_IDS):
            assert await house.deliver(f"r{number}", b"%d" % number) == 200
        assert len(house.buffer.appender.origins()) == 2
        assert await house.deliver(f"r{4 * SLOT_IDS - 1}", b"again") == 200
        assert len(await house.stored()) == 4 * SLOT_IDS

    in_house(scenario, House(slots_limit=2))


def test_full() -> None:
    """A buffer that is full takes none of it, says when to come back, and takes all of it then."""

    async def scenario(house: House) -> None:
        house.buffer.disk.free = 0
        reply = await house.ask(body_of("one", b"a"))
        assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, b"5")
        early = house.dialect.route().begin(head(headers={b"content-length": b"10000"}))
        assert early is not None
        assert early.status == 503
        house.buffer.disk.free = 1 << 40
        assert await house.deliver("one", b"a") == 200
        assert await house.stored() == [b"a"]

    in_house(scenario)


@pytest.mark.parametrize(
    ("status", "reason", "given"),
    [
        (404, "no delivery stream", {"stream": "nobody"}),
        (405, "POST", {"method": "PUT"}),
        (400, "kafka", {"stream": "kafka"}),
        (400, "version 1.0", {"headers": {b"x-amz-firehose-protocol-version": b"2.0"}}),
        (400, "give the request an id", {"id": "", "body": body_of("", b"a")}),
        (400, "give the request an id", {"id": "x" * 257, "body": body_of("x" * 257, b"a")}),
        (400, "requestId is not", {"body": body_of("another", b"a")}),
        (400, "of the protocol", {"body": b""}),
        (400, "of the protocol", {"body": b"[]"}),
        (400, "of the protocol", {"body": b"[" * 100_000}),
        (400, "of the protocol", {"body": b'{"requestId":"one","timestamp":1}'}),
        (400, "of the protocol", {"body": body_of("one", b"a", timestamp="1")}),
        (400, "of the protocol", {"body": body_of("one", records=[{"data": "no base64"}])}),
        (400, "of the protocol", {"body": body_of("one", records=[{"data": "YQ=="}, {"data": "YQ="}])}),
        (400, "of the protocol", {"body": body_of("one", records=[{}])}),
        (400, "0 records", {"body": body_of("one")}),
        (400, "10001 records", {"body": body_of("one", *[b""] * (RECORDS_LIMIT + 1))}),
        (400, "Content-Encoding", {"headers": {b"content-encoding": b"br"}}),
        (400, "Content-Encoding", {"headers": {b"content-encoding": b"gzip"}, "body": gzip.compress(b"x" * 999)[:-9]}),
        (400, "once decoded", {"headers": {b"content-encoding": b"gzip"}, "body": gzip.compress(b"x" * (1 << 21))}),
    ],
)
def test_refused_as_a_whole(status: int, reason: str, given: dict[str, Any]) -> None:
    """A request that is not in order is told why in the protocol's words, and nothing of it is stored."""

    async def scenario(house: House) -> None:
        reply = await house.ask(**{"body": body_of("one", b"a"), **given})
        said = json.loads(reply.body)
        assert (reply.status, reason in said["errorMessage"]) == (status, True), said
        assert said["requestId"] == given.get("id", "one")[:256]
        assert isinstance(said["timestamp"], int)
        assert await house.stored() == []

    in_house(scenario)


def test_as_many_as_may_be() -> None:
    """A request of as many records as the protocol allows is taken."""

    async def scenario(house: House) -> None:
        assert await house.deliver("one", *[b"x"] * RECORDS_LIMIT) == 200
        assert len(await house.stored()) == RECORDS_LIMIT

    in_house(scenario)


def test_keys() -> None:
    """With keys, a request carries one of them as Amazon Data Firehose does; so do probes, which store nothing."""

    async def scenario(house: House) -> None:
        for key, status in ((b"wrong", 401), (b"", 401), (b"right", 200)):
            given = {"headers": {b"x-amz-firehose-access-key": key}}
            assert (await house.ask(body_of("one", b"a"), **given)).status == status
            assert (await house.ask(b"", method="OPTIONS", **given)).status == status
        assert (await house.ask(body_of("two", b"a"), id="two")).status == 401
        assert await house.stored() == [b"a"]

    in_house(scenario, House(keys=(b"other", b"right")))


def test_too_large_a_record() -> None:
    """What is too large for the stream goes to its error output with a reason, and the others are records."""

    async def scenario(house: House) -> None:
        assert await house.deliver("one", b"fits", b"does not fit") == 200
        await house.buffer.appender.seal()
        (segment,) = house.buffer.sealed
        outbox = house.buffer.outbox()
        rows = [row for piece in (await outbox.open(segment)).slices() for row in piece.to_pylist()]
        assert [(row["record"], (row["refused"] or "").partition(":")[0]) for row in rows] == [
            (b"fits", ""),
            (b"does not fit", "RecordTooLarge"),
        ]

    in_house(scenario, House(options=SplitOptions(max_record_bytes=4)))


def test_strict() -> None:
    """A strict stream takes nothing of a request with a record that is too large."""

    async def scenario(house: House) -> None:
        assert await house.deliver("one", b"fits", b"does not fit") == 400
        assert await house.stored() == []

    in_house(scenario, House(options=SplitOptions(max_record_bytes=4), strict=True))


def test_overload_and_size_in_this_dialect() -> None:
    """What is refused before its body is read is told so in the protocol's words, and never by 413."""

    async def scenario(house: House) -> None:
        route = house.dialect.route()
        reply = route.refuse(413, "too large", 0.0)
        assert (reply.status, json.loads(reply.body)["errorMessage"]) == (400, "too large")
        assert dict(route.refuse(503, "busy", 2.0).headers)[b"retry-after"] == b"2"
        house.admission.admit(1 << 24)
        packed = gzip.compress(body_of("one", b"a" * 10_000))
        reply = await house.ask(packed, headers={b"content-encoding": b"gzip"})
        assert reply.status == 503
        assert await house.stored() == []

    in_house(scenario)


def test_remembered_by_a_later_release() -> None:
    """Where the memory of requests is of a later format, nothing is guessed at: the sender is to come back."""

    async def scenario(house: House) -> None:
        house.buffer.state.origins["requests:0"] = Origin("requests:0", "9:whatever")
        assert await house.deliver("one", b"a") == 503
        assert await house.stored() == []

    in_house(scenario)


def test_stream_that_goes_away() -> None:
    """A request whose stream is removed while it is read is told so, and nothing of it is stored."""

    async def scenario(house: House) -> None:
        packed = gzip.compress(body_of("one", b"a"))
        asked = asyncio.ensure_future(house.ask(packed, headers={b"content-encoding": b"gzip"}))
        await passed(0.0005)
        del house.intakes[STREAM]
        assert (await asked).status == 404

    in_house(scenario)
