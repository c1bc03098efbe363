"""The real AWS Lambda as a transform: calls over HTTP through boto3, and what each way to fail ends in."""

from __future__ import annotations

import asyncio
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
import virtual_time
from batches import rows
from lambda_server import (
    Answer,
    Event,
    Fault,
    HangUp,
    Hold,
    LambdaServer,
    Reset,
    failure,
    in_capitals,
    refusal,
    running,
)
from programs import PATIENCE_SECONDS, wait_for
from pydantic import ValidationError
from sites import site
from virtual_time import Inline, VirtualRuntime

from firehose.aws import Failed
from firehose.contracts import Hook, Refused, Retry
from firehose.delivery.outcomes import verify
from firehose.hooks.program import PAYLOAD_BYTES
from firehose.model import Outcome
from firehose.runtime import Runtime
from transforms.lambda_ import Lambda, LambdaOptions, backoff_seconds, error_code

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:clean"
PARTLY = "123456789012:function:clean"
THREE = [b"one", b"two", b"three"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[LambdaServer]:
    yield from running()


@pytest.fixture
def server(endpoint: LambdaServer) -> LambdaServer:
    """The endpoint as if nobody had called it yet."""
    endpoint.forget()
    return endpoint


@pytest.fixture(autouse=True)
def _no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever AWS set-up the developer's machine has is none of these tests' business."""
    for name in ("PROFILE", "DEFAULT_PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def hook(server: LambdaServer, runtime: Runtime, **keys: Any) -> Lambda:
    given = {key: value for key, value in server.keys(**keys).items() if value is not None}
    return Lambda(LambdaOptions.model_validate(given), site(Inline(), runtime=runtime))


def outcome(server: LambdaServer, slice: pa.RecordBatch | None = None, **keys: Any) -> Outcome:
    """What becomes of three records, unless others are given; time passes only where the transform waits for it."""
    return timed(server, slice, **keys)[0]


def timed(server: LambdaServer, slice: pa.RecordBatch | None = None, **keys: Any) -> tuple[Outcome, float]:
    given = rows(THREE) if slice is None else slice

    async def asked() -> tuple[Outcome, float]:
        function = hook(server, VirtualRuntime(), **keys)
        try:
            made = await function.outcome(given)
            return made, asyncio.get_running_loop().time()
        finally:
            await function.close()

    made, seconds = virtual_time.run(asked())
    verify(given, made, "Lambda")
    return made, seconds


def records(of: Outcome) -> list[bytes]:
    return list(of.rows.column("record").to_pylist())


def said(of: Outcome, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in names) for one in of.refused.table.to_pylist()]


def message(of: Outcome) -> str:
    (one,) = set(of.refused.table.column("message").to_pylist())
    return str(one)


# A call


def test_a_call_is_awss(server: LambdaServer) -> None:
    """The function is called synchronously with AWS's event, and the rows hold what it has made."""
    made = outcome(server)
    assert records(made) == [b"ONE", b"TWO", b"THREE"]
    (call,) = server.invocations
    assert (call.function, call.qualifier) == ("clean", None)
    assert call.headers["x-amz-invocation-type"] == "RequestResponse"
    event = call.event
    assert list(event) == ["invocationId", "deliveryStreamArn", "region", "records"]
    assert event["deliveryStreamArn"] == "arn:aws:firehose:us-east-1:000000000000:deliverystream/app"
    assert event["region"] == "us-east-1"
    assert [one["data"] for one in event["records"]] == [b64encode(record).decode() for record in THREE]


@pytest.mark.parametrize(
    ("keys", "function", "qualifier", "region"),
    [
        ({"function": "clean"}, "clean", None, "us-east-1"),
        ({"function": "clean:live"}, "clean:live", None, "us-east-1"),
        ({"function": ARN}, ARN, None, "eu-west-1"),
        ({"function": ARN, "qualifier": "$LATEST"}, ARN, "$LATEST", "eu-west-1"),
        ({"function": ARN, "region": "us-west-2"}, ARN, None, "us-west-2"),
        (
            {"function": "123456789012:function:clean", "qualifier": "7"},
            "123456789012:function:clean",
            "7",
            "us-east-1",
        ),
    ],
)
def test_which_function(
    server: LambdaServer, keys: dict[str, Any], function: str, qualifier: str | None, region: str
) -> None:
    """A function is named by its name or ARN, with or without a qualifier, and called in the region of its ARN."""
    outcome(server, **keys)
    (call,) = server.invocations
    assert (call.function, call.qualifier) == (function, qualifier)
    assert f"/{region}/lambda/aws4_request" in call.headers["authorization"]


def test_ends_as_the_function_says(server: LambdaServer) -> None:
    """Records are dropped and refused one by one; what is refused names the function and its qualifier."""

    def judged(event: Event) -> object:
        ids = [one["recordId"] for one in event["records"]]
        return {
            "records": [{"recordId": ids[0], "result": "Dropped"}, {"recordId": ids[1], "result": "ProcessingFailed"}]
        }

    server.function = judged
    made = outcome(server, function=ARN, qualifier="live")
    assert made.dropped.to_pylist() == [0]
    assert said(made, "row", "record", "code", "attempts", "function") == [
        (1, b"two", "Lambda.ProcessingFailedStatus", 1, f"{ARN}:live"),
        (2, b"three", "Lambda.MissingRecordId", 1, f"{ARN}:live"),
    ]


def test_connections_are_kept(server: LambdaServer) -> None:
    """One call after the other takes the same connection."""

    async def several() -> None:
        function = hook(server, VirtualRuntime())
        for _ in range(3):
            await function.outcome(rows(THREE))
        await function.close()

    virtual_time.run(several())
    assert (len(server.invocations), server.connections) == (3, 1)


def test_no_rows_are_no_call(server: LambdaServer) -> None:
    """For nothing, nobody is called."""
    assert records(outcome(server, rows([]))) == []
    assert server.invocations == []


def test_a_large_slice_takes_several_calls(server: LambdaServer) -> None:
    """No event is larger than Lambda takes; the rows come out in order and once, partition keys or none."""

    def keyed(event: Event) -> object:
        answer: Any = {
            "records": [{"recordId": one["recordId"], "result": "Ok", "data": ""} for one in event["records"]]
        }
        if len(server.invocations) == 2:
            answer["records"][0]["metadata"] = {"partitionKeys": {"k": "v"}}
        return answer

    server.function = keyed
    given = rows([b"x" * 1000] * 9000)
    made = outcome(server, given)
    assert [len(call.body) <= PAYLOAD_BYTES for call in server.invocations] == [True] * 3
    assert made.rows.column("row").equals(given.column("row"))
    metas = [meta for meta in made.rows.column("meta").to_pylist() if meta]
    assert metas == ['{"partitionKeys":{"k":"v"}}']


def test_many_small_records_fit(server: LambdaServer) -> None:
    """A slice of the smallest records is cut as well: their ids weigh more than their data."""
    server.function = lambda event: {
        "records": [{"recordId": one["recordId"], "result": "Dropped"} for one in event["records"]]
    }
    made = outcome(server, rows([b"x"] * 65_536))
    assert len(made.dropped) == 65_536
    assert len(server.invocations) > 1
    assert all(len(call.body) <= PAYLOAD_BYTES for call in server.invocations)


# Failures

FAILURES: list[tuple[str, Fault, str, str]] = [
    ("throttled", refusal(429, "TooManyRequestsException"), "InvokeLimitExceeded", "raise the function's concurrency"),
    ("missing", refusal(404, "ResourceNotFoundException"), "ResourceNotFound", "check the keys function, qualifier"),
    ("denied", refusal(403, "AccessDeniedException"), "InvokeAccessDenied", "grant lambda:InvokeFunction on clean"),
    ("wrong token", refusal(403, "UnrecognizedClientException"), "InvalidSecurityToken", "check access_key_id"),
    ("wrong secret", refusal(403, "InvalidSignatureException"), "InvalidSecurityToken", "check access_key_id"),
    ("old token", refusal(403, "ExpiredTokenException"), "InvalidSecurityToken", "session_token"),
    ("service", refusal(500, "ServiceException"), "InternalServerError", "ServiceException: as scripted"),
    ("unavailable", refusal(503, "ServiceUnavailableException"), "ServiceUnavailable", "ServiceUnavailable"),
    ("a proxy's 429", Answer(b"slow down", 429), "InvokeLimitExceeded", "clean: "),
    ("a proxy's 503", Answer(b"<html>Unavailable</html>", 503), "ServiceUnavailable", "clean: "),
    ("a proxy's 502", Answer(b"<html>Bad Gateway</html>", 502), "InvocationFailure", "clean: "),
    ("elsewhere", Answer(b"", 301, {"Location": "http://127.0.0.1:1/"}), "InvocationFailure", "clean: "),
    ("bad code", refusal(502, "InvalidZipFileException"), "InvalidZipFileException", "as scripted"),
    ("no addresses", refusal(502, "ENILimitReachedException"), "ENILimitReachedException", "as scripted"),
    ("other", refusal(409, "ResourceConflictException"), "InvocationFailure", "ResourceConflictException"),
    ("hangs up", HangUp(), "TargetServerFailedToRespond", "ConnectionClosed"),
    ("resets", Reset(), "TargetServerFailedToRespond", "ConnectionClosed"),
    ("cut off", Answer(b'{"records":[', headers={"Content-Length": "400"}), "InvocationFailure", "clean: "),
    ("exception", failure({"errorMessage": "no", "errorType": "KeyError"}), "FunctionError", "failed: KeyError: no"),
    ("handled", failure({"errorMessage": "no"}, "Handled"), "FunctionError", "the function failed: no"),
    ("task time-out", failure({"errorMessage": "x Task timed out after 3.00 seconds"}), "FunctionError", "timed out"),
    ("no text", refusal(400, "WhateverException", "\ud800!"), "InvocationFailure", "clean: WhateverException: ?!"),
    ("silent failure", failure({}), "FunctionError", "the function failed: {}"),
    ("odd failure", failure(["?"]), "FunctionError", 'the function failed: ["?"]'),
    ("oversize", Answer(b" " * (PAYLOAD_BYTES + 1)), "FunctionError", "more than 6291456 bytes"),
    ("far oversize", Answer(b"x" * (2 * PAYLOAD_BYTES)), "FunctionError", "lower buffering.size_mib"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code", "words"), [one[1:] for one in FAILURES], ids=[one[0] for one in FAILURES])
def test_what_is_tried_again(server: LambdaServer, fault: Fault, code: str, words: str) -> None:
    """A call that fails is made anew for the whole slice, exactly `attempts` times; then each record is refused."""
    server.script += [fault] * 4
    made = outcome(server)
    assert len(server.invocations) == 4
    assert records(made) == []
    assert said(made, "record", "error_type", "code", "attempts", "function") == [
        (record, "processing-failed", f"Lambda.{code}", 4, "clean") for record in THREE
    ]
    assert words in message(made)
    assert "hush-hush" not in message(made)


@pytest.mark.parametrize("fault", [one[1] for one in FAILURES], ids=[one[0] for one in FAILURES])
def test_what_passes(server: LambdaServer, fault: Fault) -> None:
    """A failure that passes costs nothing but time: boto3 itself repeats nothing."""
    server.script += [fault, fault]
    assert records(outcome(server)) == [b"ONE", b"TWO", b"THREE"]
    assert len(server.invocations) == 3


def test_each_attempt_is_an_invocation_of_its_own(server: LambdaServer) -> None:
    """An attempt has an id of its own, and the same records under the same ids."""
    server.script += [HangUp()] * 2
    outcome(server)
    events = [call.event for call in server.invocations]
    assert len({event["invocationId"] for event in events}) == 3
    assert [event["records"] for event in events] == [events[0]["records"]] * 3


def test_attempts_are_counted(server: LambdaServer) -> None:
    """A record that the function refuses after failures says how many calls there were."""
    server.script += [HangUp(), refusal(429, "TooManyRequestsException")]
    server.function = lambda event: {"records": []}
    assert said(outcome(server), "code", "attempts") == [("Lambda.MissingRecordId", 3)] * 3


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_attempts_are_those_asked_for(server: LambdaServer, attempts: int) -> None:
    """The key `attempts` is how often a slice is handed over at most."""
    server.script += [HangUp()] * attempts
    assert said(outcome(server, attempts=attempts), "attempts") == [(attempts,)] * 3
    assert len(server.invocations) == attempts


NOT_AGAIN: list[tuple[str, Answer, str, str]] = [
    ("nothing", Answer(b""), "JsonProcessingException", "is not JSON"),
    ("text", Answer(b"Hello"), "JsonProcessingException", "(byte 0): Hello"),
    ("half", Answer(b'{"records":['), "JsonProcessingException", '{"records":['),
    ("two", Answer(b"{}{}"), "JsonProcessingException", "trailing characters"),
    ("not UTF-8", Answer(b'["\xff"]'), "JsonProcessingException", "is not JSON"),
    ("not a number", Answer(b'{"records":NaN}'), "JsonProcessingException", "is not JSON"),
    ("deep", Answer(b"[" * 100_000), "JsonProcessingException", "is not JSON"),
    ("null", Answer(b"null"), "FunctionError", "got `null`"),
    ("a list", Answer(b"[]"), "FunctionError", "got `array`"),
    ("no records", Answer(b'{"Records":[]}'), "FunctionError", "missing required field `records`"),
    ("too large", refusal(413, "RequestTooLargeException"), "InvocationFailure", "RequestTooLargeException"),
    ("no JSON taken", refusal(400, "InvalidRequestContentException"), "InvocationFailure", "InvalidRequestContent"),
]


@pytest.mark.parametrize(("answer", "code", "words"), [one[1:] for one in NOT_AGAIN], ids=[one[0] for one in NOT_AGAIN])
def test_what_is_not_tried_again(server: LambdaServer, answer: Answer, code: str, words: str) -> None:
    """What another call cannot mend refuses the slice at the first."""
    server.script.append(answer)
    made = outcome(server)
    assert len(server.invocations) == 1
    assert said(made, "record", "code", "attempts") == [(record, f"Lambda.{code}", 1) for record in THREE]
    assert words in message(made)


def test_a_wrong_answer_is_not_asked_for_again(server: LambdaServer) -> None:
    """An answer that breaks the contract refuses its slice at the first call."""
    server.function = lambda event: {"records": [{"recordId": "x", "result": "fine"}]}
    assert said(outcome(server), "code", "attempts") == [("Lambda.FunctionError", 1)] * 3
    assert len(server.invocations) == 1


def test_nobody_listens(server: LambdaServer) -> None:
    """A refused connection is a failed call like any other."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    made = outcome(server, endpoint_url=f"http://127.0.0.1:{port}")
    assert said(made, "code", "attempts") == [("Lambda.InvocationFailure", 4)] * 3
    assert "EndpointConnection" in message(made)


def test_a_slow_function_times_out(server: LambdaServer) -> None:
    """A function that takes longer than `timeout_seconds` is not waited for."""
    server.script += [Hold(), Hold()]
    made = outcome(server, timeout_seconds=0.2, attempts=2)
    assert said(made, "code", "attempts") == [("Lambda.FunctionTimedOut", 2)] * 3
    assert "raise the key timeout_seconds" in message(made)
    wait_for(lambda: len(server.invocations) == 2, "both calls to be read")


def test_a_timeout_may_pass(server: LambdaServer) -> None:
    """A call that succeeds after one that was not waited for counts, and only that."""
    server.script.append(Hold())
    assert records(outcome(server, timeout_seconds=2)) == [b"ONE", b"TWO", b"THREE"]


def test_one_large_record_spoils_no_other(server: LambdaServer) -> None:
    """A record that Lambda does not take is refused at once and alone."""
    server.function = lambda event: {"records": []}
    given = rows([b"a", b"x" * 5_000_000, b"b"])
    server.script += [Answer(b'{"records":[]}'), refusal(413, "RequestTooLargeException")]
    made = outcome(server, given)
    codes = [code for (code,) in said(made, "code")]
    assert codes == ["Lambda.MissingRecordId", "Lambda.InvocationFailure", "Lambda.MissingRecordId"]
    assert len(server.invocations) == 3


# Waiting between calls


def test_waits_double(server: LambdaServer) -> None:
    """After a failure it waits one second, then two, then four, each time up to half of it less."""
    server.script += [HangUp()] * 3
    _, seconds = timed(server)
    assert 3.5 <= seconds <= 7.1


def test_waits_are_bounded() -> None:
    """The wait grows no further than its limit, and is spread: many streams do not call at the same instant."""
    assert [backoff_seconds(n, 0.0, None) for n in (1, 2, 3, 5, 6, 7, 300)] == [1, 2, 4, 16, 30, 30, 30]
    assert backoff_seconds(3, 0.5, None) == 3
    assert [backoff_seconds(1, 0.0, wished) for wished in (0, 7, 3600)] == [1, 7, 60]


@pytest.mark.parametrize(("header", "least", "most"), [("20", 20, 20.1), ("1e9", 60, 60.1), ("soon", 0.5, 1.1)])
def test_lambdas_wish_is_heard(server: LambdaServer, header: str, least: float, most: float) -> None:
    """A Retry-After is kept to, within reason."""
    server.script.append(refusal(429, "TooManyRequestsException", **{"Retry-After": header}))
    _, seconds = timed(server)
    assert least <= seconds <= most


# Our side


def test_no_credentials(server: LambdaServer) -> None:
    """Where there is nobody to call as, no record is refused: the outcome is asked for again once that is mended."""
    with pytest.raises(Retry, match="give access_key_id and secret_access_key, a profile or a role_arn"):
        outcome(server, access_key_id=None, secret_access_key=None)
    with pytest.raises(Retry, match="change the key profile"):
        outcome(server, access_key_id=None, secret_access_key=None, profile="nobody")
    assert server.invocations == []


def test_a_role_that_may_not_be_assumed(server: LambdaServer) -> None:
    """A role that is refused is told apart from a function that is."""
    made = outcome(server, role_arn="arn:aws:iam::123456789012:role/firehose", sts_endpoint_url=server.url)
    assert said(made, "code", "attempts") == [("Lambda.AssumeRoleAccessDenied", 4)] * 3
    assert "check the key role_arn" in message(made)
    assert server.invocations == []


def test_sts_in_trouble() -> None:
    """A role that STS could not lend just now is not told as one that may not be assumed."""
    assert error_code(Failed("Throttling", "", 400, operation="AssumeRole")) == "InvocationFailure"


# Side by side, and closing


def announced(server: LambdaServer) -> threading.Event:
    """Set once the function is called."""
    called = threading.Event()

    def function(event: Event) -> object:
        called.set()
        return in_capitals(event)

    server.function = function
    return called


async def entered(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_SECONDS)


async def test_calls_run_side_by_side(server: LambdaServer) -> None:
    """As many calls as `invocations` are outstanding at once, from whatever segments, and never more."""
    together = threading.Barrier(3)
    lock, inside, most = threading.Lock(), 0, 0

    def counted(event: Event) -> object:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(PATIENCE_SECONDS)
        with lock:
            inside -= 1
        return in_capitals(event)

    server.function = counted
    function = hook(server, Runtime(), invocations=3)
    assert (function.at_once, isinstance(function, Hook)) == (3, True)
    made = await asyncio.gather(*(function.outcome(rows(THREE)) for _ in range(9)))
    assert [records(one) for one in made] == [[b"ONE", b"TWO", b"THREE"]] * 9
    assert most == 3
    await function.close()


async def checked(server: LambdaServer, **keys: Any) -> None:
    function = hook(server, Runtime(), **keys)
    try:
        await function.check()
    finally:
        await function.close()


async def test_a_check_calls_nothing(server: LambdaServer) -> None:
    """Whether the function may be called is asked for its qualifier, and the function does not run."""
    await checked(server)
    await checked(server, qualifier="live")
    assert server.dry_runs == [("clean", None), ("clean", "live")]
    assert server.invocations == []


@pytest.mark.parametrize(
    ("verdict", "kind", "words"),
    [
        (refusal(404, "ResourceNotFoundException"), Refused, "check the keys function, qualifier and region"),
        (refusal(403, "AccessDeniedException"), Refused, "grant lambda:InvokeFunction on clean"),
        (refusal(403, "UnrecognizedClientException"), Refused, "check access_key_id"),
        (refusal(429, "TooManyRequestsException"), Retry, "lower the key invocations"),
        (refusal(500, "ServiceException"), Retry, "clean: ServiceException"),
    ],
)
async def test_a_check_says_what_to_mend(
    server: LambdaServer, verdict: Answer, kind: type[Refused | Retry], words: str
) -> None:
    """What a call would be refused for is told with the way out, and whether it may pass by itself."""
    server.verdict = verdict
    with pytest.raises(kind, match=words):
        await checked(server)


async def test_a_check_without_credentials(server: LambdaServer) -> None:
    """Where there is nobody to call as, the check says so."""
    with pytest.raises(Retry, match="NoCredentials"):
        await checked(server, access_key_id=None, secret_access_key=None)


async def test_a_hanging_call_holds_up_no_other(server: LambdaServer) -> None:
    """While one slice hangs, the others are transformed."""
    hold = Hold()
    server.script.append(hold)
    function = hook(server, Runtime(), invocations=2)
    called = announced(server)
    slow = asyncio.ensure_future(function.outcome(rows([b"slow"])))
    await entered(called)
    for _ in range(5):
        assert records(await function.outcome(rows(THREE))) == [b"ONE", b"TWO", b"THREE"]
    assert not slow.done()
    hold.until.set()
    assert records(await slow) == [b"SLOW"]
    await function.close()


async def test_closing_ends_what_is_under_way(server: LambdaServer) -> None:
    """Whoever waits is told to ask again, at once; so is whoever comes later. Closing twice is fine."""
    called = announced(server)
    server.script.append(Hold())
    function = hook(server, Runtime(), invocations=1)
    waiting = [asyncio.ensure_future(function.outcome(rows(THREE))) for _ in range(2)]
    await entered(called)
    await function.close()
    for one in waiting:
        with pytest.raises(Retry, match="was closed while clean was to be called"):
            await one
    with pytest.raises(Retry):
        await function.outcome(rows(THREE))
    await function.close()
    assert len(server.invocations) == 1


async def test_whoever_is_cancelled_is_cancelled(server: LambdaServer) -> None:
    """A waiter that is cancelled gets no `Retry` in place of it, and its place is free for others."""
    called = announced(server)
    hold = Hold()
    server.script.append(hold)
    function = hook(server, Runtime(), invocations=1)
    waiting = asyncio.ensure_future(function.outcome(rows(THREE)))
    await entered(called)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hold.until.set()
    assert records(await function.outcome(rows(THREE))) == [b"ONE", b"TWO", b"THREE"]
    await function.close()


# Options


def test_defaults_are_awss() -> None:
    """Three retries, five minutes, 1 MiB, five outstanding invocations."""
    options = LambdaOptions(function="clean")
    assert (options.attempts, options.timeout_seconds, options.invocations) == (4, 300, 5)
    assert (options.buffering.size_bytes, options.buffering.interval_seconds) == (1024 * 1024, 60)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "Field required"),
        ({"function": ""}, "must be a function's name or ARN, such as arn:aws:lambda:us-east-1:123456789012:function:"),
        ({"function": "arn:aws:lambda:us-east-1:123:function:clean"}, "must be a function's name or ARN"),
        ({"function": "clean it"}, "must be a function's name or ARN"),
        ({"function": "clean:live", "qualifier": "7"}, "leave one of the two out"),
        ({"function": "clean", "attempts": 0}, "greater than or equal to 1"),
        ({"function": "clean", "timeout_seconds": 901}, "less than or equal to 900"),
        ({"function": "clean", "buffering": {"size_mib": 4}}, "less than or equal to 3"),
        ({"function": "clean", "access_key_id": "a"}, "give both or neither"),
        ({"function": "clean", "retries": 3}, "Extra inputs"),
    ],
)
def test_wrong_options(keys: dict[str, Any], words: str) -> None:
    """What cannot work is refused when the file is read, with the way out."""
    with pytest.raises(ValidationError, match=words):
        LambdaOptions.model_validate(keys)
