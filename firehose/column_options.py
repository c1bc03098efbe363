"""What the blocks of Parquet and ORC share: which columns there are, and how JSON becomes their values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from firehose import deserializers
from firehose.blocks import Block
from firehose.columnar import Columnar, FileWriter
from firehose.compression import Written
from firehose.deserializers import Deserializers
from firehose.formats import Format
from firehose.registry import Site
from firehose.schemas import options as schemas
from firehose.schemas.options import INFER, SchemaBlock


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

    def made(self, site: Site) -> Format:
        return Columnar(self, schemas.made(self.columns, site), deserializers.made(self.deserializer))

    @property
    @abstractmethod
    def group_bytes(self) -> int: ...

    @abstractmethod
    def begun(self, sink: Written, first: pa.Table, notes: Mapping[str, str]) -> FileWriter: ...
