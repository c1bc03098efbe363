"""The Splunk destination: what is sent, what counts as arrived, and every way a collector can fail it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import endpoint
import hec_server
import pytest
from batches import Notes, batch
from endpoint import Act, listening, overdue, says
from hec_server import TOKEN, Hec, lose_number, posting_to, takes, tells
from programs import free_port
from pydantic import ValidationError
from sites import site
from virtual_time import Inline, VirtualRuntime, passed, run

from destinations import splunk
from destinations.splunk import HALVINGS, Splunk, SplunkOptions
from firehose.contracts import Retry
from firehose.model import Batch, Receipt
from firehose.posting import Answer, Failed, Kind, Posting
from firehose.runtime import Runtime, Threads

Make = Callable[..., Splunk]
TIMEOUT_SECONDS = 60
MIB = 1 << 20


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


@pytest.fixture
async def far() -> AsyncIterator[Hec]:
    async with listening(Hec()) as one:
        assert isinstance(one, Hec)
        yield one


@pytest.fixture
async def make(far: Hec, threads: Threads) -> AsyncIterator[Make]:
    """Makes destinations over `far`, with the options given."""
    made: list[Splunk] = []

    def make(**options: Any) -> Splunk:
        said = {"hec_endpoint": far.url, "hec_token": TOKEN, "ack_poll_seconds": 0.1, "verify_tls": False, **options}
        made.append(Splunk(SplunkOptions.model_validate(said), site(threads)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def failure(destination: Splunk, of: Batch | None = None, memo: Notes | None = None) -> Retry:
    with pytest.raises(Retry) as told:
        await destination.deliver(of or batch([b"a", b"b"]), memo or Notes())
    return told.value


def many(count: int, size: int) -> list[bytes]:
    return [b"%08d" % number * (size // 8) for number in range(count)]


async def test_the_request(far: Hec, make: Make) -> None:
    """Records go one behind the other, with the token and a channel, on which it is then asked for them."""
    receipt = await make().deliver(batch([b"a\n", b"", b"\xff"]), Notes())
    (asked,) = far.asked
    channel = asked.headers["x-splunk-request-channel"]
    assert (asked.method, asked.path, asked.body) == ("POST", "/services/collector/raw", b"a\n\xff")
    assert asked.headers["authorization"] == f"Splunk {TOKEN}"
    assert str(UUID(channel)) == channel
    assert far.questions[-1].path == f"/services/collector/ack?channel={channel}"
    assert far.questions[-1].headers["authorization"] == f"Splunk {TOKEN}"
    assert json.loads(far.questions[-1].body) == {"acks": [0]}
    assert (receipt.objects, receipt.sent_bytes) == ((asked.headers["x-request-id"],), 3)


async def test_channels_are_used_again_when_nothing_is_open(far: Hec, make: Make) -> None:
    """Deliveries one after the other share a channel; those side by side do not, nor do two instances."""
    destination = make()
    for first in range(3):
        await destination.deliver(batch([b"x"], first=first), Notes())
    assert len({one.headers["x-splunk-request-channel"] for one in far.asked}) == 1
    await asyncio.gather(*(destination.deliver(batch([b"x"], first=first), Notes()) for first in range(3, 6)))
    await make().deliver(batch([b"x"]), Notes())
    assert len({one.headers["x-splunk-request-channel"] for one in far.asked}) == 4


async def test_events(far: Hec, make: Make) -> None:
    """The event endpoint gets records that are events, one or several; what is none is refused by itself."""
    good = [b'{"event":"a"}', b'{"event":{"b":1},"time":2}\n{"event":0}', b" \n"]
    bad = [b"{", b'{"a":1}', b'{"event":""}', b'{"event":null}', b'{"event":1} 2', b"[]"]
    receipt = await make(hec_endpoint_type="event").deliver(batch([*good, *bad]), Notes())
    (asked,) = far.asked
    assert (asked.path, asked.body) == ("/services/collector/event", b"".join(good))
    table = receipt.refused.table
    assert table.column("row").to_pylist() == list(range(len(good), len(good) + len(bad)))
    assert set(table.column("code").to_pylist()) == {"Splunk.InvalidDataFormat"}
    assert set(table.column("error_type").to_pylist()) == {"splunk-failed"}


async def test_nothing_to_send(far: Hec, make: Make) -> None:
    """Empty records are delivered without a request, which Splunk would not take."""
    assert await make().deliver(batch([b"", b""]), Notes()) == Receipt()
    assert far.asked == []


CODES: list[tuple[str, Act]] = [
    ("DisabledToken", tells(1)),
    ("InvalidToken", tells(2)),
    ("InvalidToken", tells(3)),
    ("InvalidToken", tells(4)),
    ("InvalidIndex", tells(7)),
    ("ServerError", tells(8)),
    ("IndexerBusy", tells(9)),
    ("ServerError", tells(10)),
    ("ServerError", tells(11)),
    ("DisabledAck", tells(14)),
    ("InvalidToken", tells(16)),
    ("IndexerBusy", tells(18)),
    ("IndexerBusy", tells(19)),
    ("IndexerBusy", tells(20)),
    ("InvalidToken", tells(21)),
    ("DisabledToken", tells(22)),
    ("ServerError", tells(23)),
    ("IndexerBusy", tells(26)),
    ("IndexerBusy", tells(27)),
    ("URLNotFound", tells(404)),
    ("ServerError", says("500 Oh", b'{"code":99}')),
    ("InvalidToken", says("401 No", b"<html>")),
    ("InvalidToken", says("403 No", f"I do not know {TOKEN}".encode())),
    ("URLNotFound", says("404 No")),
    ("URLNotFound", says("405 No")),
    ("IndexerBusy", says("429 Wait", Retry_After="3")),
    ("IndexerBusy", says("503 Wait", b"<html>")),
    ("ServerError", says("500 Oh")),
    ("ServerError", says("502 Oh", b"{")),
    ("ServerError", says("418 Odd", b'{"code":"x"}')),
    ("InvalidEndpoint", says("302 There", Location="/login")),
    ("InvalidHecResponseCharacter", says("200 OK")),
    ("InvalidHecResponseCharacter", says("200 OK", b"<html>welcome</html>")),
    ("InvalidHecResponseCharacter", says("200 OK", b"[" * 100_000)),
    ("InvalidHecResponseCharacter", says("200 OK", b'{"code":99,"ackId":0}')),
    ("InvalidHecResponseCharacter", says("200 OK", b'{"code":0,"ackId":"0"}')),
    ("InvalidHecResponseCharacter", endpoint.speak_garbage),
    ("InvalidHecResponseCharacter", endpoint.flood),
    ("DisabledAck", tells(0)),
    ("ConnectionClosed", endpoint.hang_up),
    ("ConnectionClosed", endpoint.reset),
    ("ConnectionTimeout", overdue(endpoint.stop_halfway, TIMEOUT_SECONDS)),
]


@pytest.mark.parametrize(("code", "act"), CODES)
async def test_failures_have_aws_codes(far: Hec, make: Make, code: str, act: Act) -> None:
    """Each answer that is no success is tried again under AWS's code, and tells no token."""
    destination, memo = make(timeout_seconds=TIMEOUT_SECONDS), Notes()
    far.script = [act]
    told = await failure(destination, memo=memo)
    assert told.code == f"Splunk.{code}", told.reason
    assert far.url in told.reason
    assert TOKEN not in told.reason
    await destination.deliver(batch([b"a", b"b"]), memo)
    assert far.bodies == [b"ab"]


@pytest.mark.parametrize("code", [24, 25])
async def test_nearly_full_is_a_success(far: Hec, make: Make, code: int) -> None:
    """Splunk takes records while it warns that it fills up."""
    far.script = [takes(code)]
    await make().deliver(batch([b"a"]), Notes())
    assert far.bodies == [b"a"]


async def test_retry_after_is_told(far: Hec, make: Make) -> None:
    """What a busy collector wishes for is passed on."""
    far.script = [says("503 Wait", Retry_After="7")]
    assert (await failure(make())).after_seconds == 7


async def test_nobody_listens(make: Make) -> None:
    """A collector that is not there is an endpoint that cannot be reached, with a way out."""
    told = await failure(make(hec_endpoint=f"http://127.0.0.1:{free_port()}"))
    assert told.code == "Splunk.InvalidEndpoint"
    assert "check hec_endpoint" in told.reason


async def test_tls_to_one_that_has_none(far: Hec, make: Make) -> None:
    """https to a collector that speaks plain HTTP is a failed handshake."""
    told = await failure(make(hec_endpoint=far.url.replace("http:", "https:")))
    assert told.code == "Splunk.SSLHandshake", told.reason


async def test_a_token_without_acknowledgement_stores_nothing(far: Hec, make: Make) -> None:
    """Where the token does not acknowledge, no record is sent: every attempt would store it once more."""
    far.acks = False
    destination = make()
    for _ in range(2):
        assert (await failure(destination)).code == "Splunk.DisabledAck"
    assert far.asked == []


async def test_one_whose_acknowledgement_ends(far: Hec, make: Make) -> None:
    """Where acknowledgement is switched off meanwhile, records are sent without a number once, and no more."""
    destination, memo = make(), Notes()
    await destination.deliver(batch([b"a"]), Notes())
    far.acks = False
    for _ in range(3):
        assert (await failure(destination, batch([b"b"], first=1), memo)).code == "Splunk.DisabledAck"
    assert far.bodies == [b"a", b"b"]


async def test_413_halves(far: Hec, make: Make) -> None:
    """A request that is too large goes in halves, at once the next time; a record that is too large is refused."""
    far.limit_bytes = 3000
    records = many(16, 800)
    records[5] = b"x" * 4000
    destination, memo = make(), Notes()
    receipt = await destination.deliver(batch(records), memo)
    assert b"".join(sorted(b"".join(far.bodies)[at : at + 800] for at in range(0, 12000, 800))) == b"".join(
        sorted(records[:5] + records[6:])
    )
    assert receipt.refused.table.select(["row", "code"]).to_pylist() == [
        {"row": 5, "code": "Splunk.ServerError.ContentTooLarge"}
    ]
    far.asked.clear()
    await destination.deliver(batch(many(16, 800), first=16), Notes())
    assert [len(one.body) for one in far.asked] == [1600] * 8


@pytest.mark.parametrize("kind", ["raw", "event"])
async def test_one_poisoned_record(far: Hec, make: Make, kind: str) -> None:
    """A record that makes Splunk refuse its request is found and refused; the others arrive, each once."""
    far.poison = b"bad"
    records = [b'{"event":%d}\n' % number for number in range(100)]
    records[37] = b'{"event":"bad"}\n'
    receipt = await make(hec_endpoint_type=kind).deliver(batch(records), Notes())
    assert sorted(b"".join(far.bodies).splitlines(True)) == sorted(records[:37] + records[38:])
    assert receipt.refused.table.column("row").to_pylist() == [37]
    assert receipt.refused.table.column("code").to_pylist() == ["Splunk.InvalidDataFormat"]


async def test_nothing_but_poison(far: Hec, make: Make) -> None:
    """Where nearly every record is refused, the search for the others ends: each row is delivered or refused."""
    far.poison = b"bad"
    records = [b"bad%d" % number if number % 50 else b"good%d" % number for number in range(2000)]
    receipt = await make().deliver(batch(records), Notes())
    refused = set(receipt.refused.table.column("row").to_pylist())
    assert len(receipt.refused) == len(refused)
    assert {number for number in range(2000) if number % 50} <= refused
    arrived = b"".join(far.bodies).count(b"good")
    assert len(refused) + arrived == 2000
    assert len(far.asked) <= 3 * HALVINGS


async def test_what_is_too_large_is_halved_when_the_search_has_ended(
    far: Hec, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there were many poisoned records costs no records whose only fault is their number."""
    monkeypatch.setattr(splunk, "HALVINGS", 0)
    far.script = [tells(6), says("413 Too Large")]
    receipt = await make(request_mib=0.01).deliver(batch(many(20, 1000)), Notes())
    assert receipt.refused.table.column("row").to_pylist() == list(range(10))
    assert b"".join(far.bodies) == b"".join(many(20, 1000)[10:])


KINDS = [
    ("url", "URLNotFound"),
    ("header", "InvalidToken"),
    ("ca_file", "SSLUnverified"),
    ("connect", "InvalidEndpoint"),
    ("certificate", "SSLUnverified"),
    ("handshake", "SSLHandshake"),
    ("tls", "SSLHandshake"),
    ("reset", "ConnectionClosed"),
    ("timeout", "ConnectionTimeout"),
    ("malformed", "InvalidHecResponseCharacter"),
    ("phrase", "InvalidHecResponseCharacter"),
    ("size", "InvalidHecResponseCharacter"),
]


@pytest.mark.parametrize(("kind", "code"), KINDS)
async def test_failures_of_the_network_have_aws_codes(
    make: Make, kind: Kind, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps a request from being answered has AWS's code, and the reason why."""

    async def fails(*_: object) -> Answer:
        raise Failed(kind, "as it is")

    monkeypatch.setattr(Posting, "ask", fails)
    told = await failure(make())
    assert (told.code, "as it is" in told.reason) == (f"Splunk.{code}", True)


async def test_cookies_are_kept(far: Hec, make: Make) -> None:
    """What a load balancer sets goes back to it on the same channel, and only there."""
    expires = "Expires=Wed, 21 Oct 2026 07:28:00 GMT"
    far.cookies = (f"AWSALB=one; {expires}; Path=/", "node=7")
    destination = make()
    await destination.deliver(batch([b"a"]), Notes())
    assert far.questions[-1].headers["cookie"] == "AWSALB=one; node=7"
    far.cookies = ("AWSALB=two",)
    await destination.deliver(batch([b"b"], first=1), Notes())
    assert [one.headers.get("cookie") for one in far.asked] == ["AWSALB=one; node=7"] * 2
    assert far.questions[-1].headers["cookie"] == "AWSALB=two; node=7"
    far.cookies = ()
    await make().deliver(batch([b"c"], first=2), Notes())
    assert "cookie" not in far.asked[-1].headers


async def test_check(far: Hec, make: Make) -> None:
    """A check asks after health, token and acknowledgement, stores nothing, and says what to mend."""
    await make().check()
    assert far.indexed == []
    far.health = 18
    with pytest.raises(Retry, match="queues are full"):
        await make().check()
    far.health = 17
    with pytest.raises(Retry, match="check hec_token"):
        await make(hec_token="another").check()
    far.acks = False
    with pytest.raises(Retry, match="enable indexer acknowledgement"):
        await make().check()
    with pytest.raises(Retry, match="check hec_endpoint"):
        await make(hec_endpoint=f"{far.url}/elsewhere").check()


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("hec_endpoint", {"hec_endpoint": "https://there:8088/services/collector/raw"}),
        ("hec_endpoint", {"hec_endpoint": "https://there:8088?channel=x"}),
        ("hec_endpoint", {"hec_endpoint": "there:8088"}),
        ("hec_token", {"hec_token": "Splunk abc"}),
        ("hec_token", {"hec_token": "a\nb"}),
        ("hec_token", {"hec_token": ""}),
        ("hec_endpoint_type", {"hec_endpoint_type": "metrics"}),
        ("ack_timeout_seconds", {"ack_timeout_seconds": 179}),
        ("ack_timeout_seconds", {"ack_timeout_seconds": 601}),
    ],
)
def test_options_that_cannot_be(key: str, options: dict[str, Any]) -> None:
    """What Splunk or AWS does not have is refused before anything is sent."""
    with pytest.raises(ValidationError, match=key):
        SplunkOptions.model_validate({"hec_endpoint": "https://there:8088", "hec_token": "abc", **options})


def test_the_token_is_not_shown() -> None:
    """Options and what is made of them hide the token."""
    options = SplunkOptions.model_validate({"hec_endpoint": "https://there:8088/", "hec_token": TOKEN})
    assert TOKEN not in repr(options)
    assert options.hec_endpoint == "https://there:8088"


# Acknowledgements, in virtual time.


class Waits:
    """A collector without sockets, and destinations over it whose minutes take no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.far = Hec()
        self.runtime = VirtualRuntime()
        self.memo = Notes()
        self._options = options
        monkeypatch.setattr(splunk, "Posting", posting_to(self.far))

    def make(self) -> Splunk:
        """As after a restart."""
        said = {"hec_endpoint": self.far.url, "hec_token": TOKEN, **self._options}
        self.runtime = VirtualRuntime(seed=len(self.far.asked))  # another life has other dice
        return Splunk(SplunkOptions.model_validate(said), site(Inline(), runtime=self.runtime))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


def test_acks_that_come_late(waits: Waits) -> None:
    """A request that is indexed within the time has arrived, however often it is asked about."""

    async def main() -> None:
        waits.far.index_after = 80
        began = waits.runtime.monotonic()
        await waits.make().deliver(batch([b"a"]), waits.memo)
        assert 160 < waits.runtime.monotonic() - began < 180
        assert waits.far.bodies == [b"a"]

    run(main())


@pytest.mark.parametrize("seconds", [180, 600])
def test_acks_that_never_come(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Past the time the request has failed, and how long was waited is told: the deadline stands still meanwhile."""
    waits = Waits(monkeypatch, ack_timeout_seconds=seconds)

    async def main() -> None:
        waits.far.index_after = 1e9
        told = await failure(waits.make(), memo=waits.memo)
        assert told.code == "Splunk.AckTimeout"
        assert f"within {seconds} seconds" in told.reason
        assert seconds <= told.waited_seconds < seconds + 5
        assert told.done_rows is not None
        assert told.done_rows.to_pylist() == []

    run(main())


def test_what_is_acknowledged_too_late_is_not_sent_again(waits: Waits) -> None:
    """Before a repeat it is asked once more: what was indexed after all is not stored twice."""

    async def main() -> None:
        waits.far.index_after = 1e9
        destination = waits.make()
        await failure(destination, memo=waits.memo)
        waits.far.index_after = 0
        began = waits.runtime.monotonic()
        await destination.deliver(batch([b"a", b"b"]), waits.memo)
        assert waits.far.bodies == [b"ab"]
        assert waits.runtime.monotonic() - began < 1

    run(main())


def test_only_what_is_not_acknowledged_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several requests, those that are indexed are noted: in this process, and in the next."""
    waits = Waits(monkeypatch, request_mib=1)
    records = many(6, 400_000)

    async def main() -> None:
        waits.far.script = [takes(), forget, takes()]
        told = await failure(waits.make(), batch(records), waits.memo)
        assert told.code == "Splunk.AckTimeout"
        assert told.done_rows is not None
        assert told.done_rows.to_pylist() == [0, 1, 4, 5]
        waits.far.asked.clear()
        await waits.make().deliver(batch(records), waits.memo)
        assert [one.body for one in waits.far.asked] == [b"".join(records[2:4])]
        assert sorted(waits.far.bodies) == [b"".join(records[at : at + 2]) for at in (0, 2, 4)]

    async def forget(at: endpoint.Exchange) -> None:
        """Gives a number, and loses what was sent before it is indexed."""
        await at.say("200 OK", b'{"text":"Success","code":0,"ackId":5}')

    run(main())


def test_a_process_that_takes_over_asks_first(waits: Waits) -> None:
    """What a killed process sent is asked for as long as it would have been, and not sent again once it is indexed."""

    async def main() -> None:
        waits.far.index_after = 20
        delivering = asyncio.ensure_future(waits.make().deliver(batch([b"a"]), waits.memo))
        await passed(10)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        receipt = await waits.make().deliver(batch([b"a"]), waits.memo)
        assert waits.far.bodies == [b"a"]
        assert (receipt.objects, receipt.sent_bytes) == ((waits.far.asked[0].headers["x-request-id"],), 0)
        waits.far.asked.clear()
        await waits.make().deliver(batch([b"a"]), waits.memo)
        assert waits.far.asked == []

    run(main())


def test_splunk_restarts_in_between(waits: Waits) -> None:
    """Numbers that a restarted Splunk gives to others prove nothing of what it forgot: that is sent again."""

    async def main() -> None:
        waits.far.index_after = 1e9
        destination = waits.make()
        first = asyncio.ensure_future(destination.deliver(batch([b"lost"]), waits.memo))
        await passed(10)
        waits.far.restart()
        waits.far.index_after = 0
        waits.far.indexed.clear()
        for number in range(1, 5):
            await destination.deliver(batch([b"other"], first=number), Notes())
        with pytest.raises(Retry, match="no acknowledgement"):
            await first
        await waits.make().deliver(batch([b"lost"]), waits.memo)
        assert waits.far.bodies == [b"other"] * 4 + [b"lost"]

    run(main())


def test_a_channel_that_something_is_open_on_is_not_used_again(waits: Waits) -> None:
    """What another request of a restarted Splunk is numbered cannot be taken for what timed out before."""

    async def main() -> None:
        waits.far.index_after = 1e9
        destination = waits.make()
        await failure(destination, batch([b"lost"]), waits.memo)
        waits.far.restart()
        waits.far.indexed.clear()
        waits.far.index_after = 1
        other = asyncio.ensure_future(destination.deliver(batch([b"other"], first=1), Notes()))
        await passed(3)
        await destination.deliver(batch([b"lost"]), waits.memo)
        await other
        assert waits.far.bodies == [b"other", b"lost"]

    run(main())


def test_a_lost_answer_is_a_second_copy(waits: Waits) -> None:
    """What Splunk stored without giving a number is sent again: never lost, as Splunk knows no ids of its own."""

    async def main() -> None:
        waits.far.script = [lose_number]
        destination = waits.make()
        assert (await failure(destination, memo=waits.memo)).code == "Splunk.ConnectionClosed"
        await destination.deliver(batch([b"a", b"b"]), waits.memo)
        assert waits.far.bodies == [b"ab", b"ab"]
        first, again = (one.headers for one in waits.far.asked)
        assert first["x-request-id"] == again["x-request-id"]
        assert first["x-splunk-request-channel"] != again["x-splunk-request-channel"]

    run(main())


def test_questions_that_fail_are_asked_again(waits: Waits) -> None:
    """A question without an answer says nothing about the records: it is asked again until the time is over."""

    async def main() -> None:
        garbage = [endpoint.hang_up, tells(9), says("200 OK", b"{"), says("200 OK", b'{"acks":[]}'), tells(10)]
        destination = waits.make()
        await destination.deliver(batch([b"a"]), Notes())
        waits.far.ack_script = [*garbage, *[says("200 OK", b'{"acks":{"7":true,"x":true}}')] * 9]
        await destination.deliver(batch([b"b"], first=1), waits.memo)
        assert waits.far.bodies == [b"a", b"b"]
        assert waits.far.ack_script == []
        waits.far.ack_script = [tells(10)] * 1000
        told = await failure(destination, batch([b"c"], first=2))
        assert told.code == "Splunk.ProxyWithoutStickySessions"
        assert "no acknowledgement within 180 seconds" in told.reason
        assert "sticky sessions" in told.reason

    run(main())


def test_the_request_that_fails_last_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When sending fails, what was sent before is still waited for, and what arrived long ago still counts."""
    waits = Waits(monkeypatch, request_mib=1)
    records = many(6, 400_000)

    async def main() -> None:
        waits.far.script = [takes(), tells(9), takes()]
        told = await failure(waits.make(), batch(records), waits.memo)
        assert told.code == "Splunk.IndexerBusy"
        assert told.done_rows is not None
        assert told.done_rows.to_pylist() == [0, 1]
        waits.far.script = [tells(9)]
        told = await failure(waits.make(), batch(records), waits.memo)
        assert told.done_rows is not None
        assert told.done_rows.to_pylist() == [0, 1]
        await waits.make().deliver(batch(records), waits.memo)
        assert waits.far.bodies == [b"".join(records[at : at + 2]) for at in (0, 2, 4)]

    run(main())


def test_open_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch waits for acknowledgements now and then, instead of leaving ever more requests open."""
    waits = Waits(monkeypatch, request_mib=0.01)
    records = many(100, 8000)

    async def main() -> None:
        most = 0

        async def watched(at: endpoint.Exchange) -> None:
            nonlocal most
            await takes()(at)
            most = max(most, sum(map(len, waits.far._open.values())))

        waits.far.index_after = 3
        waits.far.script = [watched] * 100
        await waits.make().deliver(batch(records), waits.memo)
        assert most == splunk.OPEN_REQUESTS
        assert waits.far.bodies == records

    run(main())


def test_nothing_is_sent_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that wait for room are not sent any more once one of those open has failed."""
    waits = Waits(monkeypatch, request_mib=0.01)

    async def main() -> None:
        waits.far.index_after = 1e9
        told = await failure(waits.make(), batch(many(20, 8000)), waits.memo)
        assert told.code == "Splunk.AckTimeout"
        assert len(waits.far.asked) == splunk.OPEN_REQUESTS

    run(main())


def test_cookies_survive_a_restart(waits: Waits) -> None:
    """A process that takes over asks the very server that its predecessor sent to."""

    async def main() -> None:
        waits.far.index_after = 20
        waits.far.cookies = ("node=7",)
        delivering = asyncio.ensure_future(waits.make().deliver(batch([b"a"]), waits.memo))
        await passed(10)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        waits.far.questions.clear()
        await waits.make().deliver(batch([b"a"]), waits.memo)
        assert {one.headers.get("cookie") for one in waits.far.questions} == {"node=7"}

    run(main())


def test_notes_are_bounded(waits: Waits) -> None:
    """However often a request is repeated, a memo does not grow without end."""

    async def main() -> None:
        waits.memo.written = [json.dumps({"other": number}) for number in range(1024)]
        await waits.make().deliver(batch([b"a"]), waits.memo)
        assert [note for note in waits.memo.written if "sent" in note] == []
        assert hec_server.TOKEN not in "".join(waits.memo.written)

    run(main())
