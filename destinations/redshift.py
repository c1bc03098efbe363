"""Amazon Redshift: batches staged in S3, then loaded by COPY from a manifest, each of them once.

firehose.md section 11. A batch becomes an object of the S3 destination, a manifest names it, and one transaction loads
what the manifest names and says in a table of ours that it did (see `firehose.redshift.loads`): a repeat, whatever it
repeats and whoever has died meanwhile, finds that and loads nothing. Loads of one destination go one at a time. Every
failure is tried again until patience ends; then the rows are dead letters, and a manifest stands where AWS leaves it,
for who would rather load by hand. It must never tell a secret, nor wait for a cluster without bound.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from destinations.s3 import S3, S3Options
from firehose import aws, naming, observe
from firehose.contracts import Memo, Refused, Retry
from firehose.hidden import Hidden
from firehose.model import Batch, Receipt
from firehose.naming import ObjectNames
from firehose.redshift import copying
from firehose.redshift.checks import trouble
from firehose.redshift.connection import Connection, Failed
from firehose.redshift.copying import CopyOptions, Table
from firehose.redshift.loads import Load, Loads
from firehose.redshift.login import Cluster, ClusterOptions, Seconds
from firehose.registry import Site
from firehose.runtime import utc
from firehose.stream_config import DestinationBlock, StreamConfig

T = TypeVar("T")
GRACE_SECONDS = 10.0  # that the cluster is left to cancel a statement by itself, and to say so
MANIFESTS, SKIPPED = "manifests/", "errors/manifests/"  # below the prefix of what is staged
MISSING = "Redshift.MissingS3File"  # it is staged anew
WAYS_OUT: Mapping[str, str] = {
    "AuthenticationFailed": "check user and password, or iam",
    "ColumnNotFound": "check the key columns",
    "ConnectionFailed": "check host and port, and that the cluster runs and lets us in",
    "DatabaseNotFound": "check the key database",
    "DataLoadFailed": "check copy_options and columns against the records",
    "InsufficientPrivilege": "grant INSERT on the table, and SELECT, INSERT and DELETE on loads_table",
    "S3BucketAccessDenied": "check that the cluster may read the staging bucket: iam_role",
    "SchemaNotFound": "check the keys table and loads_table",
    "SslFailure": "check sslmode, and that host is the name in the certificate",
    "SslNotSupported": "check sslmode",
    "SyntaxError": "check copy_options",
    "TableNotFound": "create it, or check the key table",
}


class StagingOptions(S3Options):
    """The block `staging`: any `s3` block with a literal prefix, of objects that COPY can read."""

    PARTITIONS: ClassVar[bool] = False

    compression: Literal["none", "gzip"] = "none"


class RedshiftOptions(DestinationBlock, ClusterOptions, CopyOptions):
    """`type: redshift`."""

    LETTERS: ClassVar[bool] = False
    RETRY_SECONDS: ClassVar[float | None] = 3600

    type: Literal["redshift"] = "redshift"
    staging: StagingOptions
    cleanup: Literal["keep", "after_copy"] = "keep"
    loads_table: Table = "firehose_loads"
    loads_days: Annotated[float, Field(ge=1, le=36500)] = 30
    copy_timeout_seconds: Seconds = 3600

    def problems(self, stream: StreamConfig) -> Iterator[tuple[str, str]]:
        yield from super().problems(stream)
        yield from self._problems_of_staging(stream)
        if self.credentials() is None:
            yield "iam_role", "says as whom the cluster reads the bucket; give it, or access keys in staging"
        for message in self.mismatches(self.staging.compression, self.staging.format.type):
            yield "copy_options", message

    def _problems_of_staging(self, stream: StreamConfig) -> Iterator[tuple[str, str]]:
        literal = naming.problems(self.staging.prefix, None, expressions_allowed=False)
        longest = [] if literal else naming.problems(f"{self.staging.prefix or ''}{SKIPPED}", None)
        for message in literal + longest:
            yield "staging.prefix", message
        if not literal:
            for key, message in self.staging.problems(stream):
                yield f"staging.{key}", message
        others = (one for one in stream.destinations.values() if isinstance(one, RedshiftOptions) and one is not self)
        if any(one.staging.place() == self.staging.place() for one in others):
            yield "staging.prefix", "is that of another destination of the stream, in the same bucket; change it"

    def place(self) -> tuple[str, ...]:
        return (self.type, self.shown, self.table)

    def credentials(self) -> str | None:
        """The part of the COPY that says as whom the cluster reads the bucket."""
        staging = self.staging
        if self.iam_role is not None:
            return copying.of_role(self.iam_role)
        if staging.access_key_id is None or staging.secret_access_key is None:
            return None
        token = staging.session_token.get_secret_value() if staging.session_token is not None else None
        return copying.of_keys(staging.access_key_id, staging.secret_access_key.get_secret_value(), token)

    def url(self, name: str) -> str:
        return f"s3://{self.staging.bucket}/{name}"

    def staged_as(self) -> list[str]:
        """What of the staging makes an object another one."""
        return [*self.staging.container(), self.staging.compression, self.staging.format.type]


@dataclass(frozen=True, slots=True)
class Staged:
    """A batch in the staging bucket, and its load."""

    receipt: Receipt
    load: Load
    manifest: str  # its name


class Redshift:
    """Delivers to a table."""

    Options: ClassVar[type[DestinationBlock]] = RedshiftOptions
    error_type: ClassVar[str] = "redshift-failed"

    def __init__(self, options: RedshiftOptions, site: Site) -> None:
        self._options = options
        self._site = site
        self._threads = site.threads
        self._staging = S3(options.staging, site)
        self._cluster = Cluster(options, site.shared.of(aws.Clients), site.region)
        self._loads = Loads(options.loads_table, options.loads_days)
        prefix = options.staging.prefix or ""
        self._manifests = ObjectNames(prefix=prefix + MANIFESTS)
        self._skipped = ObjectNames(prefix=prefix + SKIPPED)
        self._turn = asyncio.Lock()
        self._hidden = Hidden(options)

    async def check(self) -> None:
        """The staging bucket, then the cluster: all that a load needs is asked about, and nothing left behind."""
        await self._staging.check()
        if self._options.cleanup == "after_copy":
            await self._staging.remove(f"{self._options.staging.prefix or ''}{MANIFESTS}probe")
        said = await self._at_work(self._options.timeout_seconds, self._trouble)
        if said is not None:
            raise self._retry(Failed(*said))

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        staged = await self._staged(batch, memo)
        if not staged.receipt.objects:
            return staged.receipt
        await self._staging.put(staged.manifest, self._content(staged))
        try:
            async with self._turn:
                await self._at_work(self._options.copy_timeout_seconds, partial(self._load, staged))
        except Retry as failure:
            if failure.code == MISSING:
                await self._threads.run(partial(_forget, memo))
            raise
        await self._clean(staged)
        return staged.receipt

    async def give_up(self, batch: Batch, memo: Memo) -> Receipt | None:
        """The receipt, where the batch is in the table after all: the last reply may have been lost. Else None, and
        what AWS leaves then: a manifest of what is staged.
        """
        staged = await self._staged(batch, memo)
        if not staged.receipt.objects or await self._arrived(staged):
            await self._clean(staged)
            return staged.receipt
        name = self._skipped.data(batch.segment, None, batch.partition)
        await self._staging.put(name, self._content(staged))
        return None

    async def close(self) -> None:
        await self._staging.close()
        await self._threads.run(self._cluster.close)

    async def _staged(self, batch: Batch, memo: Memo) -> Staged:
        """Stages the batch, unless it is known to be there."""
        segment, destination = batch.segment, self._site.destination
        manifest = self._manifests.data(segment, None, batch.partition)
        whose = json.dumps(["load", destination, batch.partition, segment.version, segment.opened_at.isoformat()])
        id = ObjectNames.identity(segment, whose)
        load = Load(str(id), segment.stream, destination, self._options.url(manifest))
        receipt = await self._threads.run(partial(self._remembered, memo))
        if receipt is None:
            receipt = await self._staging.deliver(batch, memo)
            if not len(receipt.refused):  # rows that cannot be staged are found anew each time
                said = {"objects": receipt.objects, "sent_bytes": receipt.sent_bytes, "as": self._options.staged_as()}
                await self._threads.run(partial(memo.write, json.dumps({"staged": said})))
        return Staged(receipt, load, manifest)

    def _remembered(self, memo: Memo) -> Receipt | None:
        """What was staged before, as it would be now, and is not known to be gone."""
        known = [json.loads(note)["staged"] for note in _of_staging(memo)]
        if not known or known[-1]["as"] != self._options.staged_as():
            _forget(memo)
            return None
        return Receipt(tuple(known[-1]["objects"]), known[-1]["sent_bytes"])

    def _content(self, staged: Staged) -> bytes:
        """The manifest. Of columns COPY must be told the size."""
        more = {"meta": {"content_length": staged.receipt.sent_bytes}} if self._options.staging.converts else {}
        urls = map(self._options.url, staged.receipt.objects)
        return json.dumps({"entries": [{"url": url, "mandatory": True, **more} for url in urls]}).encode()

    def _load(self, staged: Staged, connection: Connection) -> None:
        credentials = self._options.credentials()
        assert credentials is not None, "options without are refused"
        copy = self._options.command(staged.load.manifest, credentials)
        now = utc(self._site.runtime.now_ms()).replace(tzinfo=None)
        if not self._loads.once(connection, staged.load, copy, now):
            observe.log.info("redshift.loaded_before", manifest=staged.load.manifest)

    async def _arrived(self, staged: Staged) -> bool:
        try:
            return await self._at_work(self._options.timeout_seconds, partial(self._loads.arrived, load=staged.load))
        except Retry as failure:
            observe.log.warning("redshift.not_asked", manifest=staged.load.manifest, reason=failure.reason)
            return False

    async def _clean(self, staged: Staged) -> None:
        """What hinders this hinders nothing else: the batch is loaded."""
        if self._options.cleanup == "keep" or not staged.receipt.objects:
            return
        try:
            await self._staging.remove(*staged.receipt.objects, staged.manifest)
        except (Retry, Refused) as failure:
            observe.log.warning("redshift.not_cleaned", manifest=staged.load.manifest, reason=failure.reason)

    async def _at_work(self, seconds: float, work: Callable[[Connection], T]) -> T:
        """Does the work in a session of its own, each of whose statements may take so long. Raises `Retry`."""
        return await self._threads.run(lambda: self._connected(seconds, work))

    def _connected(self, seconds: float, work: Callable[[Connection], T]) -> T:
        try:
            connection = Connection(self._cluster.login(), self._options.timeout_seconds)
            try:
                connection.bound(seconds + GRACE_SECONDS)
                connection.run(f"SET statement_timeout TO {max(1, int(seconds * 1000))}")
                connection.commit()  # else a rollback would undo it
                return work(connection)
            finally:
                connection.close()
        except Failed as failed:
            raise self._retry(failed) from failed
        except aws.Failed as failed:
            raise self._retry(Failed("AuthenticationFailed", f"AWS gives no login: {failed}")) from failed

    def _trouble(self, connection: Connection) -> tuple[str, str] | None:
        return trouble(connection, self._options.table, self._options.columns, self._loads)

    def _retry(self, failed: Failed) -> Retry:
        way_out = WAYS_OUT.get(failed.code, "")
        reason = f"{self._options.shown}: {failed}" + (f"; {way_out}" if way_out else "")
        return Retry(self._hidden.out_of(reason), code=f"Redshift.{failed.code}")


def _of_staging(memo: Memo) -> list[str]:
    return [note for note in memo.read() if "staged" in json.loads(note)]


def _forget(memo: Memo) -> None:
    """What was staged is gone, or is not what would be staged now."""
    for note in _of_staging(memo):
        memo.forget(note)
