"""Has records transformed by an AWS Lambda function, as Amazon Data Firehose does: firehose.md sections 8.2 to 8.4.

What the function's answer means is `firehose.hooks.lambda_style`'s; here are the calls: how many, how often again, and
what each way to fail is called. A call that fails is made anew for all of its records, so that the function is to be
one that may meet a record twice; past the attempts they go to the error output.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from firehose import aws, observe
from firehose.contracts import Refused, Retry
from firehose.hooks import lambda_style
from firehose.hooks.options import PayloadOptions
from firehose.hooks.program import PAYLOAD_BYTES, Failed
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import joined
from firehose.runtime import Runtime, Threads
from firehose.stream_config import TransformBlock

ARN = r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):\d{12}:function:"
FUNCTION = rf"({ARN}|\d{{12}}:function:)?[a-zA-Z0-9_-]{{1,140}}(?P<qualifier>:(\$LATEST|[a-zA-Z0-9_-]{{1,128}}))?"
BACKOFF_SECONDS = 1.0  # before the second attempt, doubled from there on
BACKOFF_LIMIT_SECONDS = 30.0
WISH_LIMIT_SECONDS = 60.0  # of a Retry-After
THREADS = aws.CONNECTIONS  # of all streams together

# What Lambda says, and what AWS's error output calls it.
CODES: Mapping[str, str] = {
    "TooManyRequestsException": "InvokeLimitExceeded",
    "ThrottlingException": "InvokeLimitExceeded",
    "ResourceNotFoundException": "ResourceNotFound",
    "AccessDeniedException": "InvokeAccessDenied",
    "AccessDenied": "InvokeAccessDenied",
    "UnrecognizedClientException": "InvalidSecurityToken",
    "InvalidClientTokenId": "InvalidSecurityToken",
    "InvalidSignatureException": "InvalidSecurityToken",
    "ExpiredTokenException": "InvalidSecurityToken",
    "ServiceException": "InternalServerError",
    "ReadTimeout": "FunctionTimedOut",
    "ConnectionClosed": "TargetServerFailedToRespond",
}
SAME_CODES = frozenset(
    {
        "ENILimitReachedException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidZipFileException",
        "SubnetIPAddressLimitReachedException",
    }
)
STATUS_CODES: Mapping[int, str] = {
    429: "InvokeLimitExceeded",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
# Answers that the same bytes get each time.
HOPELESS = frozenset(
    {
        "InvalidParameterValueException",
        "InvalidRequestContentException",
        "RequestTooLargeException",
        "UnsupportedMediaTypeException",
    }
)
# There is nobody to call as: no fault of the function, nor of a record.
OUR_SIDE = frozenset({"NoCredentials", "PartialCredentials", "ProfileNotFound"})
WAYS_OUT: Mapping[str, str] = {
    "InvokeLimitExceeded": "raise the function's concurrency, or lower the key invocations",
    "ResourceNotFound": "check the keys function, qualifier and region",
    "InvokeAccessDenied": "grant lambda:InvokeFunction on {function}",
    "AssumeRoleAccessDenied": "check the key role_arn, and the role's trust policy",
    "InvalidSecurityToken": "check access_key_id, secret_access_key and session_token",
    "FunctionTimedOut": "raise the key timeout_seconds, or lower buffering.size_mib",
}


class LambdaOptions(TransformBlock, aws.AwsOptions):
    """`type: lambda`."""

    type: Literal["lambda"] = "lambda"
    function: str
    qualifier: Annotated[str, Field(pattern=r"^(\$LATEST|[a-zA-Z0-9_-]{1,128})$")] | None = None
    attempts: Annotated[int, Field(ge=1, le=301)] = 4
    timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 300
    buffering: PayloadOptions = PayloadOptions()
    invocations: Annotated[int, Field(ge=1, le=THREADS)] = 5

    @field_validator("function")
    @classmethod
    def _named(cls, function: str) -> str:
        if not re.fullmatch(FUNCTION, function):
            raise ValueError(
                "must be a function's name or ARN, such as arn:aws:lambda:us-east-1:123456789012:function:clean"
            )
        return function

    @model_validator(mode="after")
    def _one_qualifier(self) -> LambdaOptions:
        if self.qualifier is not None and _part(self.function, "qualifier"):
            raise ValueError("function ends in a qualifier already: leave one of the two out")
        return self

    def calls(self) -> str:
        return self.full_name

    @property
    def full_name(self) -> str:
        """The function and its qualifier, as a dead letter names them."""
        return f"{self.function}:{self.qualifier}" if self.qualifier else self.function


class Callers:
    """Threads that wait for functions, one set for all streams of a process.

    Not those that deliver: a function may take minutes. Nobody waits for them to end, so that no stop does either.
    """

    def __init__(self) -> None:
        self._threads: Threads | None = None

    def threads(self, runtime: Runtime) -> Threads:
        if self._threads is None:
            self._threads = runtime.threads("lambda", THREADS)
        return self._threads


class CallFailed(Failed):
    """A call of Lambda that transformed nothing. `code` is AWS's, without its prefix."""

    def __init__(self, code: str, message: str, *, final: bool = False, after_seconds: float | None = None) -> None:
        super().__init__(f"Lambda.{code}", message, final=final)
        self.after_seconds = after_seconds


class Complaint(msgspec.Struct):
    """What Lambda's runtimes tell of an exception, a time-out, or an end before the time."""

    errorType: str | None = None
    errorMessage: str | None = None


class Lambda:
    """Calls a function for the rows of a slice, and waits for what it makes of them."""

    Options: ClassVar[type[TransformBlock]] = LambdaOptions
    repeatable = False

    def __init__(self, options: LambdaOptions, site: Site) -> None:
        self.name = options.full_name
        self.payload_bytes = options.buffering.size_bytes
        self.at_once = options.invocations
        self._options = options
        self._site = site
        self._function = options.full_name
        region = options.region or _part(options.function, "region") or site.region
        self._client = aws.Client(site.shared.of(aws.Clients), "lambda", options, region)
        self._threads = site.shared.of(Callers).threads(site.runtime)
        self._slots = asyncio.Semaphore(options.invocations)
        self._running: set[asyncio.Task[Outcome]] = set()
        self._closed = False

    async def check(self) -> None:
        """Asks Lambda whether we may call the function, which does not run for it."""
        await self._threads.run(self._dry_run)

    async def outcome(self, rows: pa.RecordBatch, /) -> Outcome:
        if self._closed:
            raise self._gone()
        task = asyncio.ensure_future(self._outcome(rows))
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._closed and not _cancelled():
                raise self._gone() from None
            raise
        finally:
            self._running.discard(task)

    async def close(self) -> None:
        self._closed = True
        for task in self._running:
            task.cancel()
        await self._site.threads.run(self._client.close)

    def _gone(self) -> Retry:
        return Retry(f"the transform lambda was closed while {self._function} was to be called")

    async def _outcome(self, rows: pa.RecordBatch) -> Outcome:
        pieces = lambda_style.cuts(rows, PAYLOAD_BYTES)
        return joined(rows, [await self._settled(piece) for piece in pieces])

    async def _settled(self, rows: pa.RecordBatch) -> Outcome:
        """Calls until a call succeeds or can no longer."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._called(rows, attempt)
            except CallFailed as failed:
                self._tell(rows, failed, attempt)
                if failed.final or attempt == self._options.attempts:
                    return lambda_style.all_refused(rows, failed.code, failed.message, self._function, attempt)
                wait = backoff_seconds(attempt, abs(self._site.runtime.jitter()), failed.after_seconds)
            await asyncio.sleep(wait)

    async def _called(self, rows: pa.RecordBatch, attempt: int) -> Outcome:
        async with self._slots:
            return await self._threads.run(lambda: self._call(rows, attempt))

    def _call(self, rows: pa.RecordBatch, attempt: int) -> Outcome:
        """One call, from the event to what its answer means. Raises `CallFailed`, or `Retry` where we cannot call."""
        site = self._site
        event = lambda_style.event(
            rows, invocation_id=site.runtime.request_id(), stream_arn=site.stream_arn, region=site.region
        )
        try:
            answer = self._invoke("RequestResponse", Payload=msgspec.json.encode(event))
            payload = aws.content(answer["Payload"], PAYLOAD_BYTES)
        except aws.Failed as failed:
            raise self._verdict(failed) from failed
        response = _read(payload, answer.get("FunctionError"))
        return lambda_style.answered(rows, response, self._function, attempt)

    def _dry_run(self) -> None:
        try:
            self._invoke("DryRun")
        except aws.Failed as failed:
            reason = str(self._verdict(failed))
            hopeless = 400 <= failed.status < 500 and failed.status != 429
            raise (Refused(reason) if hopeless else Retry(reason)) from failed

    def _invoke(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """Raises `aws.Failed`."""
        if self._options.qualifier is not None:
            arguments["Qualifier"] = self._options.qualifier
        return self._client.call("invoke", FunctionName=self._options.function, InvocationType=kind, **arguments)

    def _tell(self, rows: pa.RecordBatch, failed: Failed, attempt: int) -> None:
        labels = {"stream": self._site.stream, "hook": self._function}
        observe.log.warning(
            "hook.failed", **labels, attempt=attempt, records=rows.num_rows, code=failed.code, reason=failed.message
        )

    def _verdict(self, failed: aws.Failed) -> CallFailed | Retry:
        reason = f"{self._function}: {failed}"
        if failed.code in OUR_SIDE:
            return Retry(reason)
        code = error_code(failed)
        way_out = WAYS_OUT.get(code, "").format(function=self._function)
        message = f"{reason}; {way_out}" if way_out else reason
        return CallFailed(code, message, final=failed.code in HOPELESS, after_seconds=failed.after_seconds)


def _cancelled() -> bool:
    """Whether it is the task that asks which was cancelled, and not one that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def error_code(failed: aws.Failed) -> str:
    """AWS's name, without its prefix, for a call that Lambda did not answer, or refused."""
    if failed.operation == "AssumeRole":
        return "AssumeRoleAccessDenied" if failed.status == 403 else "InvocationFailure"
    if failed.code in SAME_CODES:
        return failed.code
    return CODES.get(failed.code) or STATUS_CODES.get(failed.status, "InvocationFailure")


def backoff_seconds(attempt: int, jitter: float, wished: float | None) -> float:
    """How long to wait: less up to half of it by `jitter`, in [0, 1], and not less than Lambda wishes."""
    doubled = min(BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 30), BACKOFF_LIMIT_SECONDS)
    return max(doubled * (1 - jitter / 2), min(wished or 0.0, WISH_LIMIT_SECONDS))


def _read(payload: bytes, function_error: str | None) -> object:
    """What a function has answered. Raises `CallFailed` where it has failed, or said what nobody can read."""
    if function_error is not None:
        raise CallFailed("FunctionError", f"the function failed: {_complaint(payload)}")
    if len(payload) > PAYLOAD_BYTES:
        way_out = "lower buffering.size_mib, or answer less for each record"
        raise CallFailed("FunctionError", f"the function's answer has more than {PAYLOAD_BYTES} bytes; {way_out}")
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"the function's answer is not JSON: {error}: {_shown(payload)}"
        raise CallFailed("JsonProcessingException", message, final=True) from None


def _complaint(payload: bytes) -> str:
    """What a function that failed says of it. Its traceback is in its own log."""
    try:
        said = msgspec.json.decode(payload, type=Complaint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _shown(payload)
    told = ": ".join(text for text in (said.errorType, said.errorMessage) if text)
    return lambda_style.shortened(told) or _shown(payload)


def _shown(payload: bytes) -> str:
    """The beginning of what a function said."""
    return lambda_style.shortened(payload[: 4 * lambda_style.TEXT_LIMIT].decode("utf-8", "replace"))


def _part(function: str, name: str) -> str | None:
    found = re.fullmatch(FUNCTION, function)
    return found[name] if found else None
