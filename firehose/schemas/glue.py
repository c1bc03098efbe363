"""The columns of a table in the AWS Glue Data Catalog, or in whatever speaks like it.

Partition columns of the table stand in the objects' names and not in the objects. Glue is asked once in a while, never
for each batch, and its answer is no news to a batch under way. What says nothing of the table (no connection, too many
calls, an error over there) leaves the last answer in force; what does (it is gone, we may not read it, it has a type
that is none) makes batches wait until it is mended. Source: firehose.md section 7.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from firehose import aws, observe
from firehose.contracts import Retry
from firehose.registry import Site
from firehose.table_schema import TableSchema

LATEST = "LATEST"
VERSION = r"^(LATEST|[0-9]{1,10})$"
RIGHTS = "grant glue:GetTable and glue:GetTableVersion on the table, its database and its catalog"
KEYS = "check access_key_id, secret_access_key and session_token"
WAYS_OUT: Mapping[str, str] = {
    "EntityNotFoundException": "create it, or check database, table, version, catalog_id and region",
    "AccessDeniedException": RIGHTS,
    "AccessDenied": RIGHTS,
    "UnrecognizedClientException": KEYS,
    "InvalidClientTokenId": KEYS,
    "InvalidSignatureException": KEYS,
    "ExpiredTokenException": KEYS,
    "EndpointConnection": "check that Glue can be reached, and the keys endpoint_url and region",
    "SSL": "check ca_file, or whether endpoint_url should begin with http://",
}
LINK: Mapping[str, str] = {"catalog_id": "CatalogId", "database": "DatabaseName", "table": "Name"}  # of another table
NO_NEWS = frozenset({"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"})


def _text(version: object) -> object:
    """YAML reads a version as the number that it looks like."""
    return str(version) if type(version) is int else version


Name = Annotated[str, Field(pattern=r"^\S+$", max_length=1024)]  # as a count in the pattern it would take 4 MB
Version = Annotated[
    str,
    Field(pattern=VERSION),
    BeforeValidator(_text),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": VERSION}, {"type": "integer", "minimum": 0}]}),
]


class GlueOptions(aws.AwsOptions):
    """`schema: {glue: {...}}`."""

    database: Name
    table: Name
    version: Version = LATEST
    catalog_id: Name | None = None
    refresh_seconds: Annotated[float, Field(gt=0, le=86400)] = 60


class GlueTable:
    """A table's columns, as Glue last told them."""

    def __init__(self, options: GlueOptions, site: Site) -> None:
        self._options = options
        self._stream = site.stream
        self._runtime = site.runtime
        self._region = options.region or site.region
        self._catalog = options.catalog_id or site.account_id
        self._client = aws.Client(site.shared.of(aws.Clients), "glue", options, site.region)
        self._asking = threading.Lock()
        self._known: TableSchema | None = None
        self._asked_ms = 0

    @property
    def catalog_table(self) -> Mapping[str, str]:
        options = self._options
        role = {"roleArn": options.role_arn} if options.role_arn is not None else {}
        return {
            "catalogId": self._catalog,
            "databaseName": options.database,
            "tableName": options.table,
            "region": self._region,
            "versionId": options.version,
            "catalogArn": f"arn:aws:glue:{self._region}:{self._catalog}:catalog",
            **role,
        }

    def schema(self) -> TableSchema:
        with self._asking:
            if self._known is None or self._is_due():
                self._known = self._anew()
                self._asked_ms = self._runtime.now_ms()
            return self._known

    def check(self) -> TableSchema:
        try:
            return self._asked()
        except aws.Failed as failed:
            raise self._verdict(failed) from failed

    def close(self) -> None:
        self._client.close()

    def _is_due(self) -> bool:
        """A version by its number never changes. Where the wall clock was put back, it is time too."""
        elapsed_ms = self._runtime.now_ms() - self._asked_ms
        return self._options.version == LATEST and not 0 <= elapsed_ms < self._options.refresh_seconds * 1000

    def _anew(self) -> TableSchema:
        """What Glue says now. Where that says nothing of the table: what it said before, if it ever did."""
        known, self._known = self._known, None  # once it was told to be gone, it is
        try:
            return self._asked()
        except aws.Failed as failed:
            if known is None or not _is_no_news(failed):
                raise self._verdict(failed) from failed
            observe.log.warning("schema.not_refreshed", stream=self._stream, reason=self._reason(str(failed)))
            return known

    def _asked(self) -> TableSchema:
        table = self._table()
        if (target := table.get("TargetTable")) is not None:
            other = ", ".join(f"{key} {target.get(name)}" for key, name in LINK.items())
            raise Retry(self._reason(f"is a link to another table; name that one: {other}"))
        columns = table.get("StorageDescriptor", {}).get("Columns", ())
        if not columns:
            raise Retry(self._reason("has no columns; give it some"))
        try:
            return TableSchema.parsed((column.get("Name", ""), column.get("Type", "")) for column in columns)
        except ValueError as error:
            raise Retry(self._reason(f"{error}; change the table, or name a version that is right")) from None

    def _table(self) -> dict[str, Any]:
        options = self._options
        where = {"DatabaseName": options.database}
        if options.catalog_id is not None:
            where["CatalogId"] = options.catalog_id
        if options.version == LATEST:
            answer = self._client.call("get_table", Name=options.table, **where)
        else:
            called = {"TableName": options.table, "VersionId": options.version}
            answer = self._client.call("get_table_version", **called, **where).get("TableVersion", {})
        if "Table" not in answer:
            raise aws.Failed("StrangeAnswer", "a success that tells no table")
        table: dict[str, Any] = answer["Table"]
        return table

    def _verdict(self, failed: aws.Failed) -> Retry:
        way_out = WAYS_OUT.get(failed.code)
        return Retry(self._reason(f"{failed}; {way_out}" if way_out else str(failed)), failed.after_seconds)

    def _reason(self, what: str) -> str:
        options = self._options
        version = "" if options.version == LATEST else f" version {options.version}"
        return f"Glue table {options.database}.{options.table}{version} in {self._region}: {what}"


def _is_no_news(failed: aws.Failed) -> bool:
    """Whether the failure says nothing of the table, and would have met any other question too."""
    return failed.status == 0 or failed.status == 429 or failed.status >= 500 or failed.code in NO_NEWS
