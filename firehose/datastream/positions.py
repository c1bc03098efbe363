"""Where reading begins: what GetShardIterator and SubscribeToShard ask for, checked, and found in a shard.

Source: data-streams.md section 2.4. The two operations have the same five ways to say it.
"""

from __future__ import annotations

from dataclasses import dataclass

from firehose.datastream import sequence
from firehose.datastream.arns import Account
from firehose.datastream.contracts import DataStream, ShardLog
from firehose.datastream.model import Shard
from firehose.datastream.refusals import invalid, not_found
from firehose.http.aws_json import ApiError

SKEW_MS = 100  # how far ahead of ours a client's clock may be
BY_NUMBER = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")


@dataclass(frozen=True, slots=True)
class Start:
    """A way to say where to begin, and whose request says it."""

    kind: str
    number: str | None
    at_ms: int | None
    operation: str

    def check(self, now_ms: int) -> None:
        """Raises `ApiError` where it lacks what its kind needs, or has what it must not have."""
        if (self.number is not None) != (self.kind in BY_NUMBER):
            what = "and also a" if self.number is not None else "and no"
            raise invalid(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "
                "(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
                f"Request specified {self.kind} {what} StartingSequenceNumber."
            )
        if self.kind != "AT_TIMESTAMP":
            return
        if self.at_ms is None:
            raise invalid(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. "
                "Current request has no timestamp parameter."
            )
        if self.at_ms > now_ms + SKEW_MS:
            raise invalid(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
                f"timestampInMillis: {self.at_ms}, currentTimestampInMillis: {now_ms}"
            )

    def position(self, stream: DataStream, shard: Shard, log: ShardLog, account: Account) -> int:
        """Where that is now. Raises `ApiError` for a number that is none of the shard's. One that was not given out yet
        means the tip: behind it, records still to come would be skipped.
        """
        if self.kind == "LATEST":
            return log.tip
        if self.kind == "TRIM_HORIZON":
            return log.since(stream.horizon_ms())
        if self.number is None:
            return log.since(self.at_ms or 0)
        counter = self._counter(self.number, stream, shard, account)
        return min(counter if self.kind == "AT_SEQUENCE_NUMBER" else counter + 1, log.tip)

    def _counter(self, text: str, stream: DataStream, shard: Shard, account: Account) -> int:
        number = sequence.parse(text)
        used = (
            f"StartingSequenceNumber {text} used in {self.operation} on shard {shard.id} "
            f"in stream {stream.definition.name} under account {account.account_id} is invalid"
        )
        if number is None:
            raise invalid(f"{used}.")
        if number.shard != shard.number:
            raise invalid(
                f"Invalid StartingSequenceNumber. It encodes {sequence.shard_id(number.shard)}, "
                f"while it was used in a call to a shard with {shard.id}"
            )
        if number.created_s != shard.created_s:
            raise invalid(f"{used} because it did not come from this stream.")
        return number.counter


def shard_named(text: str, stream: str, account: Account) -> int:
    """The number in a shard's id. Raises `ApiError`."""
    number = sequence.shard_number(text)
    if number is None:
        raise not_found(f"Could not find shard {text} in stream {stream} under account {account.account_id}.")
    return number


def shard_of(stream: DataStream, number: int, account: Account) -> tuple[Shard, ShardLog]:
    """Raises `ApiError` where there is none, or none any more."""
    for shard in stream.definition.shards:
        if shard.number == number:
            try:
                return shard, stream.log(number)
            except KeyError:
                break
    raise no_shard(number, stream.definition.name, account)


def no_shard(number: int, stream: str, account: Account) -> ApiError:
    return not_found(
        f"Shard {sequence.shard_id(number)} in stream {stream} under account {account.account_id} does not exist"
    )
