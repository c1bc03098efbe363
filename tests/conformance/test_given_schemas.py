"""Sources of schemas that are given keep the laws of their door: a definition's, a file's and a Glue table's.

`test_schema_sources` proves that each law can fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import glue_server
import pytest
from conformance import schema_source as suite
from conformance.schema_source import LAWS, Law
from glue_server import GlueServer
from sites import schema_site

from firehose.schemas.options import SchemaBlock, made
from firehose.schemas.source import SchemaSource

# Columns of the definition follow the definition's version, which the segment names: there is nothing to note.
NOTING = (suite.noted_before_it_is_said, suite.noted_or_nothing, suite.same_again)


@dataclass
class Given:
    """Columns in the definition."""

    root: Path

    def said(self) -> dict[str, Any]:
        return {"columns": {"id": "bigint"}}

    def make(self) -> SchemaSource:
        return made(SchemaBlock.model_validate(self.said()), schema_site(self.root))

    def change(self) -> None:
        """They never do."""


@dataclass
class File(Given):
    """A file that changes, and is taken up by the next instance."""

    def __post_init__(self) -> None:
        self._path.write_text("CREATE TABLE t (id bigint)")

    @property
    def _path(self) -> Path:
        return self.root / "t.sql"

    def said(self) -> dict[str, Any]:
        return {"file": str(self._path)}

    def change(self) -> None:
        self._path.write_text("CREATE TABLE t (id bigint, name string)")


@dataclass
class Table(Given):
    """A table that changes, and whose newest version is always asked for."""

    server: GlueServer

    def said(self) -> dict[str, Any]:
        return {"glue": self.server.keys(refresh_seconds=0.000_001)}

    def change(self) -> None:
        self.server.add({"id": "bigint", "name": "string"})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[GlueServer]:
    yield from glue_server.running()


@pytest.mark.parametrize("law", [law for law in LAWS if law not in NOTING], ids=lambda law: law.__name__)
def test_definition(tmp_path: Path, law: Law) -> None:
    """Columns that stand in the stream's definition."""
    law(Given(tmp_path))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_file(tmp_path: Path, law: Law) -> None:
    """Columns of a file."""
    law(File(tmp_path))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_glue(tmp_path: Path, endpoint: GlueServer, law: Law) -> None:
    """Columns of a table in Glue."""
    endpoint.forget()
    endpoint.add({"id": "bigint"})
    law(Table(tmp_path, endpoint))
