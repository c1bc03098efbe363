"""A database of one's own behind the Redshift proxy, a bucket to stage in, and destinations between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import redshift_proxy
from postgres import Postgres
from redshift_proxy import Fault, RedshiftProxy
from sites import site
from stores import Store

from destinations.redshift import Redshift, RedshiftOptions
from firehose.runtime import Threads

TABLE = "CREATE TABLE events (id int NOT NULL, name varchar(10), at timestamp)"


class Warehouse:
    """The table `events`, empty at first."""

    def __init__(self, postgres: Postgres, proxy: RedshiftProxy, store: Store, threads: Threads) -> None:
        self.store = store
        self.proxy = proxy
        self.bucket = store.new_bucket()
        self.database = postgres.new_database()
        self._postgres = postgres
        self._threads = threads
        self._made: list[Redshift] = []
        self.query(TABLE)

    def query(self, statement: str) -> list[list[str]]:
        return self._postgres.query(statement, self.database)

    def block(self, **keys: Any) -> dict[str, Any]:
        """Of a configuration; JSON, gzipped, unless `keys` say something else. `staging` adds to what is there."""
        staging = {
            **self.store.destination(self.bucket),
            "prefix": "stage/",
            "format": {"type": "json_lines"},
            **keys.pop("staging", {}),
        }
        del staging["type"]
        said = {"type": "redshift", "table": "events", "columns": ["id", "name"], "copy_options": "JSON 'auto' GZIP"}
        return {**redshift_proxy.login(self.proxy, self.database), **said, **keys, "staging": staging}

    def destination(self, name: str = "far", **keys: Any) -> Redshift:
        options = RedshiftOptions.model_validate(self.block(**keys))
        self._made.append(Redshift(options, site(self._threads, destination=name)))
        return self._made[-1]

    async def close(self) -> None:
        for one in self._made:
            await one.close()

    def script(self, *faults: tuple[str, Fault]) -> None:
        self.proxy.script[:] = faults

    def ids(self) -> list[int]:
        """Of all that is in the table, copy by copy."""
        return sorted(int(row[0]) for row in self.query("SELECT id FROM events"))

    def loads(self) -> int:
        return int(self.query("SELECT count(*) FROM firehose_loads")[0][0])

    def names(self, below: str = "") -> list[str]:
        return [name for name in self.store.names(self.bucket) if name.startswith(below)]

    def read(self, name: str) -> bytes:
        content: bytes = self.store.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        self.store.client.put_object(Bucket=self.bucket, Key=name, Body=content)


def event(id: int, name: str | None = "x", **more: object) -> bytes:
    return json.dumps({"id": id, "name": name, **more}).encode()


def events(count: int, first: int = 0) -> list[bytes]:
    return [event(number) for number in range(first, first + count)]


def urls(manifest: bytes) -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = json.loads(manifest)["entries"]
    return entries
