"""What requests are refused with that several operations have in common: AWS's exceptions, in AWS's words."""

from __future__ import annotations

from firehose.http.aws_json import ApiError


def invalid(message: str) -> ApiError:
    return ApiError("InvalidArgumentException", message)


def not_found(message: str) -> ApiError:
    return ApiError("ResourceNotFoundException", message)


def in_use(message: str) -> ApiError:
    return ApiError("ResourceInUseException", message)


def over_limit(message: str) -> ApiError:
    return ApiError("LimitExceededException", message)


def broken(value: str, member: str, rule: str) -> ApiError:
    """A constraint that the service model does not tell of, in the words of those that it does."""
    said = f"{value} at '{member}' failed to satisfy constraint: Member must {rule}"
    return ApiError("ValidationException", f"1 validation error detected: {said}")


def no_stream(stream: str, account_id: str) -> ApiError:
    return not_found(f"Stream {stream} under account {account_id} not found.")


def no_consumer(consumer: str, stream: str) -> ApiError:
    return not_found(f"Consumer {consumer} under stream {stream} not found.")


def check_dry_run(asked: bool | None) -> None:
    """Raises `ApiError` for a request that only wanted to know whether it would succeed. Comes last."""
    if asked:
        raise ApiError("DryRunOperationException", "The request would have succeeded, but DryRun is set.")
