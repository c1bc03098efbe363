"""The doors inside the data stream: what its API, its sources and its storage know of each other.

The API and the sources see streams and their logs; neither sees a file. Nothing here imports the buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from firehose.datastream.model import Definition, Placed, Run, Shard
from firehose.model import Records


class ShardLog(Protocol):
    """One shard's records: appended, kept for the retention, read from any position.

    Law: when `append` returns, the records survive a crash; when it raises `Full` (`firehose.contracts`) none of them
    was taken. Counters never repeat, also when every record has expired and every process died. What `read` gave
    stays valid while it is held, even if its records expire or the stream is deleted.
    """

    async def append(self, records: Records) -> Placed:
        """Stores records of `SHARD_SCHEMA` in order and together, with their arrival, which the log sets (`arrival_ms`
        may be missing) and which never goes back within a shard. Their counters have no gap. Raises `Full` or `Unsure`.
        """
        ...

    @property
    def tip(self) -> int:
        """The position behind the newest durable record: where LATEST is."""
        ...

    def oldest(self) -> int:
        """The position of the oldest record that is kept; `tip` where there is none."""
        ...

    def since(self, ms: int) -> int:
        """The position of the first record that arrived at or after that instant; `tip` where there is none."""
        ...

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        """Records from `position` on. At least one where there is one, however large; else within both bounds."""
        ...

    async def beyond(self, position: int) -> None:
        """Returns once `tip` is beyond `position`, or the log is closed."""
        ...


class KeptLog(ShardLog, Protocol):
    """A shard's log, for its stream: which alone closes and deletes it."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of its files."""
        ...

    async def expire(self, before_ms: int) -> None:
        """Frees records that arrived before. Raises OSError."""
        ...

    async def close(self) -> None:
        """Takes nothing more; what it holds can still be read. May be called twice."""
        ...

    async def delete(self) -> None:
        """Frees everything, also what a crash left of an earlier attempt. Raises OSError."""
        ...


class DataStream(Protocol):
    """One stream that exists now. Its definition is replaced as a whole when something changes."""

    @property
    def definition(self) -> Definition: ...

    def shard_for(self, hash_key: int) -> Shard:
        """The open shard that the hash key falls into. Raises LookupError where there is none yet (CREATING)."""
        ...

    def log(self, shard: int) -> ShardLog:
        """Raises KeyError where there is no such shard (any more)."""
        ...

    async def append(self, shard: int, records: Records) -> Placed:
        """As the log's, but waits while the shard is being split or merged. Raises `Moved` where it is closed since,
        KeyError where the shard, or the stream, is gone.
        """
        ...

    def horizon_ms(self) -> int:
        """Records that arrived before have expired."""
        ...

    async def changed(self, seen: Definition) -> None:
        """Returns once the definition is another than `seen`, or the stream is gone."""
        ...


class Moved(Exception):
    """The shard was closed while an append to it waited: its hash keys belong to its children now."""


class DataStreams(Protocol):
    """Which streams exist. `named` is kept up to date in place, and has those that are being deleted too."""

    @property
    def named(self) -> Mapping[str, DataStream]: ...
