"""What the blocks of Parquet and ORC share: which columns there are, and how JSON becomes their values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from firehose import deserializers
from firehose.blocks import Block
from firehose.columnar import Columnar, FileWriter
from firehose.compression import Written
from firehose.deserializers import Deserializers
from firehose.deserializers.deserializer import Keys
from firehose.formats import Format
from firehose.registry import Site
from firehose.schemas import options as schemas
from firehose.schemas.options import INFER, SchemaBlock
from firehose.set_aside import Scratch


class OrName:
    """In the JSON Schema: a deserializer may be named instead."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(deserializers.TABLE)}, handler(core)]}


class ColumnarOptions(Block):
    """`type: parquet` or `type: orc`."""

    extension: ClassVar[str]

    type: str
    columns: SchemaBlock = Field(INFER, alias="schema", validate_default=True)
    deserializer: Annotated[Deserializers, OrName()] = Field("plain", validate_default=True)

    def keys(self) -> Keys:
        """Which of a record's keys go to which column."""
        return deserializers.made(self.deserializer).keys

    def made(self, site: Site) -> Format:
        deserializer = deserializers.made(self.deserializer)
        scratch = Scratch(site.disk, site.scratch, site.destination) if site.scratch else None
        return Columnar(self, schemas.made(self.columns, site, deserializer.require), deserializer, scratch)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with what it names, each with the key: asked as the service starts and reloads."""
        yield from ((f"schema.{key}", message) for key, message in self.columns.problems())
        if self.columns.infer is not None and self.deserializer.type != "plain":
            yield (
                "deserializer",
                f"schema: {INFER} reads names as they are written; leave this out, or give the columns",
            )
        if (schema := self.columns.known()) is not None:
            try:
                deserializers.made(self.deserializer).require(schema)
            except ValueError as error:
                yield "deserializer", str(error)

    @property
    @abstractmethod
    def group_bytes(self) -> int: ...

    @abstractmethod
    def begun(self, sink: Written, first: pa.Table, notes: Mapping[str, str]) -> FileWriter: ...
