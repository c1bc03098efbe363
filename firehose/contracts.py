"""The doors between the parts, and the laws that whoever stands behind a door keeps.

Every implementation, ours or a third party's, runs the conformance suite of its door (`tests/conformance`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from firehose.model import Batch, Origin, Outcome, Position, Receipt, Records, Segment, Stored, Totals

Chunk: TypeAlias = bytes | memoryview | pa.Buffer


class Unavailable(Exception):
    """An append that did not succeed: answered 503. `reason` is for people; try again `after_seconds`."""

    def __init__(self, reason: str, after_seconds: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_seconds = after_seconds


class Full(Unavailable):
    """The buffer cannot take these records durably now, and took none of them."""


class Unsure(Unavailable):
    """The disk failed under the write: the records may or may not have been stored."""


class Retry(Exception):
    """A delivery that may succeed later. `after_seconds` is the far side's own wish, where it had one.

    `done_rows` are rows (ordinals in the segment) that arrived already, in this attempt or before, and need not be
    sent again: when patience ends they count as delivered. `code` is AWS's name of the failure, where it has one.
    `waited_seconds` of the attempt were spent on answers: where AWS's deadline does not run meanwhile, they are told.
    `extra` says of rows, should they become letters, what AWS has in these beside: a JSON object for each.
    """

    def __init__(
        self,
        reason: str,
        after_seconds: float | None = None,
        done_rows: pa.Int32Array | None = None,
        code: str | None = None,
        waited_seconds: float = 0.0,
        extra: Callable[[pa.RecordBatch], pa.StringArray] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_seconds = after_seconds
        self.waited_seconds = waited_seconds
        self.done_rows = done_rows
        self.code = code
        self.extra = extra


class Refused(Exception):
    """A delivery that can never succeed as it stands: repeating the same bytes is no use."""

    def __init__(self, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Appender(Protocol):
    """All that the ingest half sees of a delivery stream's buffer.

    Law: when `append` returns, the records survive a crash (kill -9, power cut). When it raises `Full`, none of
    them was taken. When it raises `Unsure` (or anything else) they may or may not have been stored.
    """

    async def append(self, records: Records, origin: Origin | None = None) -> Position:
        """Stores `records` (columns of `INTAKE_SCHEMA`, `record` always, the others where a row has one) in order
        and together. With an `origin`, it becomes durable with them, in the same frame; then there may be no
        records. Raises `Full` or `Unsure`; after the latter, appends of the same source partition raise `Full` until it
        is settled for good whether the origin was stored, and `origins` says which.
        """
        ...

    def origins(self) -> Mapping[str, Origin]:
        """The newest durable origin of each source partition, and remembered request ids."""
        ...


class Memo(Protocol):
    """Short durable notes about one segment at one destination; gone once it is committed.

    A destination keeps here what a restart must know to clean up after a kill, such as the id of a multipart
    upload. Thread-safe.
    """

    def read(self) -> tuple[str, ...]: ...

    def write(self, note: str) -> None:
        """Durable when it returns. Raises `Retry` where the disk fails."""
        ...

    def forget(self, note: str) -> None:
        """Takes back one that is of no use any more; no harm where there is none. A crash may bring it back. Raises
        `Retry` where the disk fails.
        """
        ...


class Outbox(Protocol):
    """All that the delivery half sees of the buffer; one for each destination of a stream.

    Law: a segment once yielded comes back with the same identity and the same bytes after any crash, until it is
    committed, and never after. A held segment is not yielded until it is released.
    """

    @property
    def waiting(self) -> int:
        """How many segments `sealed` would yield at once."""
        ...

    def sealed(self) -> AsyncIterator[Segment]:
        """Sealed segments, each once per process, oldest first within a lane, waiting for more when there are none.

        Ends when the outbox is closed.
        """
        ...

    async def open(self, segment: Segment) -> Batch:
        """The segment's records, as they were taken in. An attempt begins: if the process dies, it may be to blame."""
        ...

    async def read(self, segment: Segment) -> Batch:
        """The same, for work that is done elsewhere: nobody blames the segment if this process dies meanwhile."""
        ...

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        """The durable outcome of transforms that cannot be repeated, to be read as often as one likes; None where there
        is none (yet).
        """
        ...

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        """Makes the outcomes of the segment's slices durable, in order, all or none: what `outcomes` raises is raised,
        and none is kept. Where there are some already, none is asked for.
        """
        ...

    async def commit(self, segment: Segment, totals: Totals) -> None:
        """Every row has ended as `totals` say. Durable when it returns. Repeating it changes nothing."""
        ...

    async def hold(self, segment: Segment, reason: str) -> None:
        """Sets the segment aside until a person releases it. Durable when it returns."""
        ...

    async def rest(self, segment: Segment) -> None:
        """An attempt that `open` began has failed, and was survived: neither a crash from now on nor those before were
        this segment's doing.
        """
        ...

    def deaths(self, segment: Segment) -> int:
        """How often the delivery half died in the middle of an attempt at this segment, since one was survived."""
        ...

    def memo(self, segment: Segment) -> Memo: ...


class Parts(Protocol):
    """What an outbox does beside, where the rows of its segments may go on by partition.

    Law: once parted, a segment is parted for good. It counts as not delivered until all its rows are, each in the one
    cut of its partition; after a crash it is yielded once more, only for its durable outcome to be read again.
    """

    def parted(self, segment: Segment) -> bool: ...

    def owed(self, segment: Segment) -> bool:
        """False where its cuts have all ended since it was yielded."""
        ...

    def placed(self, given: Batch) -> Batch:
        """The given segment's records, each with its `place`. An outcome may be kept whose rows have this and a
        `size_bytes`, and no `record`: they come back with their records as they were taken in.
        """
        ...

    async def bare(self, segment: Segment) -> Iterable[Outcome] | None:
        """The durable outcome, as `kept` tells it; but rows that were kept without their records are left so."""
        ...

    async def part(self, segment: Segment, totals: Totals, set_down: Callable[[], Awaitable[None]]) -> None:
        """The durable outcome's rows go on, and all its other rows have ended as `totals` say: these count the records
        of which none goes on. `set_down` is waited for once it is known which rows go on, and before anything is
        noted: what ended as letters is written there. Durable when it returns.
        """
        ...


class Source(Protocol):
    """Reads records from elsewhere.

    Law: it acknowledges upstream only after `append` returned. One that can be read again hands its origin into the
    same frame as the records and reads it back at start, so that intake is exactly once per node.
    """

    async def run(self, into: Appender) -> None: ...


class Transform(Protocol):
    """Turns the rows of a slice into an outcome.

    Law: it refuses rows, never the batch; it adds no rows that come from no input row; every input row is in exactly
    one part of the outcome, in order. `repeatable` is False where the outcome cannot be computed again for certain
    (user code, an inferred schema): then it is made durable before anything is sent.
    """

    repeatable: bool

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome: ...


@runtime_checkable
class Hook(Protocol):
    """A transform whose work is done elsewhere, by the user's code: it is waited for, and never repeatable.

    The law is that of `Transform`. A user's failure ends rows as refused; `Retry` means that something on our side,
    such as a reload, came in between, and the outcome is to be asked for again.
    """

    name: str  # as logs, metrics and dead letters call it
    payload_bytes: int  # of records, that one call of `outcome` is best given
    at_once: int  # how many calls are worked on side by side

    async def check(self) -> None:
        """Proves that the user's code can be called, without calling it. Raises `Retry` or `Refused` saying what to
        mend.
        """
        ...

    async def outcome(self, rows: pa.RecordBatch, /) -> Outcome: ...

    async def close(self) -> None:
        """Ends what is under way: whoever waits for an outcome gets `Retry`. May be called twice."""
        ...


class Destination(Protocol):
    """Sends batches to the far side.

    Law: delivering a batch twice leaves the far side as delivering it once, wherever the far side allows names or
    ids. These derive only from the batch's `Segment`, `row`, `part` and `partition`. It raises `Retry` or `Refused`;
    anything else raised is a bug, and the segment is held. Only the pipeline decides about retries, deadlines, the
    error output and backup. It never hands over a batch without rows. `deliver` may run for several segments at once;
    `close` may be called twice. `error_type` is the error-output-type of rows that it did not take in time.
    """

    error_type: ClassVar[str]

    async def check(self) -> None:
        """Reaches the far side and proves that it may write there. Raises `Retry` or `Refused` saying what to mend."""
        ...

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt: ...

    async def close(self) -> None: ...


@runtime_checkable
class GivesUp(Protocol):
    """What a destination may do beside, when the patience with a batch has ended."""

    async def give_up(self, batch: Batch, memo: Memo) -> Receipt | None:
        """The receipt, where the batch turns out to have arrived after all; None, where its rows are to go to the
        error output, with whatever people need beside to finish the delivery by hand left behind. It may be called
        again. What it raises as `Retry` or `Refused` is told, and keeps no row from the error output.
        """
        ...


class Disk(Protocol):
    """The one door to the file system, so that tests can put a hostile one behind it. All calls block.

    Every failure is an OSError. A name created, renamed or removed is durable only after `sync_folder` of its folder.
    """

    def make_folder(self, path: str) -> None:
        """Creates the folder and its parents, each durable, where they are missing."""
        ...

    def remove_folder(self, path: str) -> None: ...

    def list(self, path: str) -> list[str]:
        """Names in the folder, sorted; none where there is no such folder."""
        ...

    def size(self, path: str) -> int: ...

    def exists(self, path: str) -> bool:
        """Whether something is there. Where the disk refuses the look that is an OSError, not a no."""
        ...

    def read(self, path: str) -> bytes: ...

    def view(self, path: str) -> View:
        """The file mapped into memory, for reading."""
        ...

    def create(self, path: str) -> Writer:
        """A new file to be appended to; FileExistsError where there is one."""
        ...

    def reopen(self, path: str, size_bytes: int) -> Writer:
        """An existing file, cut to `size_bytes` and to be appended to there."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """The whole file anew: written beside, synced, renamed over the old one, folder synced."""
        ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def sync_folder(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int: ...

    def tree_bytes(self, path: str) -> int:
        """Bytes of all files in the folder and below it; 0 where there is no such folder."""
        ...

    def tree(self, path: str) -> Iterator[Stored]:
        """All files in the folder and below it, of each folder in the order of their names; none where there is no
        such folder. Links to folders are not followed. What is taken away meanwhile may be missing. Raises
        NotADirectoryError for a file.
        """
        ...

    def lock(self, path: str) -> Lock | None:
        """An exclusive lock on a file or folder, held until closed or the process ends; None where another has it."""
        ...


class Writer(Protocol):
    """An open file that only grows."""

    def write(self, *chunks: Chunk) -> int:
        """Appends all chunks; returns their size in bytes. On failure the file's end is unknown."""
        ...

    def sync(self) -> None:
        """Everything written is durable when it returns. A failed sync must never be retried on the same file."""
        ...

    def close(self) -> None: ...


class View(Protocol):
    """A file mapped into memory."""

    buffer: pa.Buffer

    def release(self, start: int, end: int) -> None:
        """The pages of these bytes will not be wanted again soon."""
        ...

    def close(self) -> None: ...


class Lock(Protocol):
    def close(self) -> None: ...
