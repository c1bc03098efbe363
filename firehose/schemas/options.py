"""The key `schema` of a format: the columns themselves, a file, a table in Glue, or the word `infer`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from firehose import hive_type
from firehose.blocks import Block
from firehose.buffer.disk import LocalDisk
from firehose.registry import Site
from firehose.schemas import file
from firehose.schemas.followed import Followed, Require, SchemaFile, takes_all
from firehose.schemas.given import Given
from firehose.schemas.glue import GlueOptions, GlueTable
from firehose.schemas.inferred import InferOptions, Inferred
from firehose.schemas.source import SchemaSource
from firehose.table_schema import TableSchema

INFER = "infer"
WAYS = "columns, file or glue"


def _is_a_type(text: str) -> str:
    hive_type.parse(text)
    return text


class SchemaBlock(Block):
    """Exactly one of its keys. `schema: infer` is short for `schema: {infer: {}}`."""

    columns: Annotated[dict[str, Annotated[str, AfterValidator(_is_a_type)]], Field(min_length=1)] | None = None
    file: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")] | None = None
    glue: GlueOptions | None = None
    infer: InferOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, given: Any) -> Any:
        if given == INFER:
            return {INFER: {}}
        if isinstance(given, str):
            raise ValueError(f"must be the word {INFER}, or a block with one of {WAYS}")
        return given

    @model_validator(mode="after")
    def _one_way(self) -> SchemaBlock:
        ways = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give one of {WAYS}, or the word {INFER}{', not ' + ' and '.join(ways) if ways else ''}")
        if self.columns is not None:
            TableSchema.parsed(self.columns)
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with what it names, each with the key: asked as the service starts and reloads."""
        if self.file is not None:
            try:
                file.read(LocalDisk(), self.file)
            except ValueError as error:
                yield "file", str(error)

    def known(self) -> TableSchema | None:
        """The columns, where the configuration or a file that can be read gives them."""
        if self.columns is not None:
            return TableSchema.parsed(self.columns)
        if self.file is None or any(self.problems()):
            return None
        return file.read(LocalDisk(), self.file)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": INFER}, handler(core)]}


def made(options: SchemaBlock, site: Site, require: Require = takes_all) -> SchemaSource:
    """Puts a schema to work. One that somebody else may change has to pass `require`, each time that it did."""
    if options.columns is not None:
        return Given(TableSchema.parsed(options.columns))
    if options.infer is not None:
        return Inferred(options.infer, site)
    if options.file is not None:
        return Followed(SchemaFile(options.file, site.disk), site, require)
    assert options.glue is not None
    return Followed(GlueTable(options.glue, site), site, require)
