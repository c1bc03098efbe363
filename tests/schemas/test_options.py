"""The key `schema` of a format: what it may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from house_rules import ROOT
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import ValidationError
from sites import schema_site

from firehose import blocks, yaml_text
from firehose.blocks import Block
from firehose.schemas.followed import Followed
from firehose.schemas.given import Given
from firehose.schemas.inferred import Inferred
from firehose.schemas.options import SchemaBlock, made
from firehose.yaml_file import YamlFile

TABLE = {"database": "db", "table": "t"}


class Around(Block):
    """A block with the key in it."""

    of: SchemaBlock


def problems(schema: object) -> list[str]:
    """What people are told, with the place."""
    file = YamlFile("f.yaml", {"of": schema})
    blocks.read(Around, file.data, (), file)
    return [f"{problem.path}: {problem.message}" for problem in file.problems]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"columns": {"a": "int"}}, Given),
        ({"file": "of.sql"}, Followed),
        ({"glue": TABLE}, Followed),
        ("infer", Inferred),
        ({"infer": {}}, Inferred),
    ],
)
def test_ways(tmp_path: Path, said: object, kind: type[Any]) -> None:
    """Each way to give a schema is put to work; what is named is not looked at before a batch needs it."""
    one = made(SchemaBlock.model_validate(said), schema_site(tmp_path))
    assert isinstance(one, kind)
    one.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("inferred", "of: must be the word infer, or a block with one of columns, file or glue"),
        ({}, "of: give one of columns, file or glue, or the word infer"),
        ({"file": "a", "columns": {"a": "int"}}, "the word infer, not columns and file"),
        ({"colums": {"a": "int"}}, "of.colums: unknown key; did you mean 'columns'?"),
        ({"columns": {}}, "of.columns: dictionary should have at least 1 item"),
        ({"columns": {"a": "int", "tags": "set<string>"}}, "of.columns.tags: invalid type 'set<string>', at 'set'"),
        ({"columns": {"a": "int", "A": "string"}}, "of: there are two columns 'a' and 'A'"),
        ({"columns": {"a": 5}}, "of.columns.a: must be text"),
        ({"file": ""}, "of.file: "),
        ({"glue": {"table": "t"}}, "of.glue.database: is missing"),
        ({"glue": {**TABLE, "access_key_id": "a"}}, "of.glue: access_key_id and secret_access_key go together"),
    ],
)
def test_refused(said: object, told: str) -> None:
    """What is wrong is told with its place and the way out."""
    assert any(told in one for one in problems(said)), problems(said)


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    """A file that is missing or wrong is told beforehand, with its name and the place in it."""
    path = tmp_path / "of.sql"
    block = SchemaBlock.model_validate({"file": str(path)})
    ((key, message),) = block.problems()
    assert (key, message) == ("file", f"{path} cannot be read: No such file or directory")
    path.write_text("CREATE TABLE t (\n a text)")
    ((_, message),) = block.problems()
    assert message.startswith(f"{path}: line 2: column 'a': invalid type 'text'")
    path.write_text("CREATE TABLE t (a string)")
    assert list(block.problems()) == []
    assert list(SchemaBlock.model_validate({"glue": TABLE}).problems()) == []


@pytest.mark.parametrize(
    ("said", "valid"),
    [
        ("infer", True),
        ({"columns": {"a": "int"}}, True),
        ({"glue": {**TABLE, "version": 3}}, True),
        ({"glue": {**TABLE, "version": "LATEST"}}, True),
        ({"glue": {**TABLE, "version": "newest"}}, False),
        ("inferred", False),
        ({"colums": {}}, False),
    ],
)
def test_schema_for_editors(said: object, valid: bool) -> None:
    """The JSON Schema of the block takes what the block takes."""
    checker = Draft202012Validator(Around.model_json_schema())
    assert checker.is_valid({"of": said}) is valid


EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "columns.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page(example: str) -> None:
    """What docs/columns.md shows can be written like that."""
    file = yaml_text.parse("columns.md", example)
    assert blocks.read(SchemaBlock, file.data["schema"], ("schema",), file) is not None, file.problems


def test_secrets_are_not_shown() -> None:
    """Nothing that is printed of a block tells its secrets."""
    keys = {**TABLE, "access_key_id": "a", "secret_access_key": "hush-hush"}
    assert "hush" not in repr(SchemaBlock.model_validate({"glue": keys}))
    with pytest.raises(ValidationError) as refused:
        SchemaBlock.model_validate({"glue": {**keys, "version": "x"}})
    assert "hush" not in str(refused.value)
