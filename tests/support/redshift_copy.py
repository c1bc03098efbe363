"""What Redshift's COPY does with a manifest in S3, done with PostgreSQL's means: JSON, CSV, delimited text, columns."""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config
from botocore.exceptions import ClientError

COPY = re.compile(
    r"""\s*COPY\s+(?P<table>\S+)\s+(?:\((?P<columns>[^)]*)\)\s+)?FROM\s+'s3://(?P<bucket>[^/']+)/(?P<key>[^']+)'\s+
    CREDENTIALS\s+'(?P<credentials>[^']*)'\s+MANIFEST(?P<options>.*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
STL = "Load into table '{}' failed.  Check 'stl_load_errors' system table for details."


class CopyFailed(Exception):
    """What the cluster itself complains of."""

    def __init__(self, message: str, state: str = "XX000") -> None:
        super().__init__(message)
        self.state = state


class Bucket:
    """The S3 server, read as whoever the COPY says."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    def read(self, keys: tuple[str, str], bucket: str, key: str) -> bytes:
        try:
            return cast(bytes, self._client(keys).get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            said, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise CopyFailed(
                f"S3ServiceException:{said.get('Message')},Status {status},Error {said.get('Code')}"
            ) from error

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, keys: tuple[str, str]) -> Any:
        with self._lock:
            if keys not in self._clients:
                self._clients[keys] = boto3.Session(*keys, region_name="us-east-1").client(
                    "s3", endpoint_url=self._url, config=Config(s3={"addressing_style": "path"})
                )
            return self._clients[keys]


@dataclass(frozen=True, slots=True)
class Copy:
    """One command."""

    table: str
    columns: str
    bucket: str
    key: str
    keys: tuple[str, str]
    options: str

    @staticmethod
    def parsed(text: str) -> Copy:
        found = COPY.fullmatch(text)
        if found is None:
            raise CopyFailed(f'syntax error in "{text[:40]}"', "42601")
        said = dict(part.split("=", 1) for part in found["credentials"].split(";"))
        if "aws_access_key_id" not in said:
            raise CopyFailed(f"User arn:aws:redshift:any is not authorized to assume IAM Role {said['aws_iam_role']}")
        keys = (said["aws_access_key_id"], said["aws_secret_access_key"])
        return Copy(found["table"], found["columns"] or "", found["bucket"], found["key"], keys, found["options"])

    def statements(self, bucket: Bucket) -> Iterator[tuple[str, bytes]]:
        """What PostgreSQL is to run for each object, and what it is to copy in."""
        manifest = json.loads(bucket.read(self.keys, self.bucket, self.key))
        for entry in manifest["entries"]:
            found = re.fullmatch(r"s3://([^/]+)/(.+)", entry["url"])
            assert found is not None
            data = bucket.read(self.keys, found[1], found[2])
            if self._says("PARQUET"):
                if entry["meta"]["content_length"] != len(data):
                    raise CopyFailed("content_length of the manifest is not the file's")
                yield self._of_rows(pq.read_table(io.BytesIO(data)).to_pylist()), b""
            elif self._says("JSON"):
                yield self._of_rows(self._documents(self._plain(data), bucket)), b""
            else:
                yield self._of_text(), self._plain(data)

    def _says(self, word: str) -> bool:
        return re.search(rf"\b{word}\b", self.options, re.IGNORECASE) is not None

    def _plain(self, data: bytes) -> bytes:
        try:
            return gzip.decompress(data) if self._says("GZIP") else data
        except (OSError, EOFError, zlib.error) as error:
            raise CopyFailed(STL.format(self.table)) from error

    def _documents(self, data: bytes, bucket: Bucket) -> list[dict[str, Any]]:
        try:
            text, found = data.decode(), []
            at = _skipped(text, 0)
            while at < len(text):
                one, at = json.JSONDecoder().raw_decode(text, at)
                found.append(one)
                at = _skipped(text, at)
        except ValueError as error:
            raise CopyFailed(STL.format(self.table)) from error
        paths = self._paths(bucket)
        return found if paths is None else [self._by_paths(one, paths) for one in found]

    def _paths(self, bucket: Bucket) -> Sequence[str] | None:
        found = re.search(r"\bJSON\s+(?:AS\s+)?'s3://([^/']+)/([^']+)'", self.options, re.IGNORECASE)
        if found is None:
            return None
        return cast(Sequence[str], json.loads(bucket.read(self.keys, found[1], found[2]))["jsonpaths"])

    def _by_paths(self, document: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
        names = [name.strip() for name in self.columns.split(",")]
        if len(names) != len(paths):
            raise CopyFailed("Number of jsonpaths and the number of columns should match.")
        return {name: _at(document, path) for name, path in zip(names, paths, strict=True)}

    def _of_rows(self, rows: list[dict[str, Any]]) -> str:
        text = pa.scalar(json.dumps(rows)).as_py().replace("'", "''")
        columns = self.columns or "*"
        into = f"({self.columns})" if self.columns else ""
        return (
            f"INSERT INTO {self.table} {into}"
            f" SELECT {columns} FROM json_populate_recordset(null::{self.table}, '{text}')"
        )

    def _of_text(self) -> str:
        into = f"({self.columns})" if self.columns else ""
        delimiter = re.search(r"\bDELIMITER\s+(?:AS\s+)?'((?:[^']|'')+)'", self.options, re.IGNORECASE)
        form = "csv" if self._says("CSV") else "text"
        by = delimiter[1] if delimiter else "," if form == "csv" else "|"
        return f"COPY {self.table} {into} FROM STDIN (FORMAT {form}, DELIMITER E'{by}')"


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _at(document: Any, path: str) -> Any:
    for step in path.removeprefix("$").replace("['", ".").replace("']", "").strip(".").split("."):
        document = document.get(step) if isinstance(document, dict) else None
    return document
