"""What `deserializer:` may say, and what is refused when the configuration is read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from firehose.blocks import Block
from firehose.deserializers import Deserializers, Hive, OpenX, Plain, made
from firehose.json_table import JsonTable
from firehose.table_schema import TableSchema


class Where(Block):
    """A block of someone else's."""

    deserializer: Deserializers = Plain.Options()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("plain", Plain),
        ("openx", OpenX),
        ("hive", Hive),
        ({"type": "openx", "case_insensitive": False}, OpenX),
        ({"type": "openx", "column_to_json_key_mappings": {"ts": "timestamp"}}, OpenX),
        ({"type": "hive", "timestamp_formats": ["millis", "yyyy-MM-dd"]}, Hive),
    ],
)
def test_taken(said: Any, kind: type) -> None:
    """A name alone is a block without options, and each block makes its own kind."""
    assert isinstance(made(Where(deserializer=said).deserializer), kind)


def test_default() -> None:
    """Our own way is the default."""
    assert isinstance(made(Where().deserializer), Plain)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("avro", "plain"),
        ({"type": "openx", "case": True}, "extra_forbidden"),
        ({"type": "plain", "case_insensitive": True}, "extra_forbidden"),
        ({"type": "openx", "column_to_json_key_mappings": {"a b": "c"}}, "a column has no whitespace"),
        ({"type": "hive", "timestamp_formats": ["yyyy-qq"]}, "'q' cannot be read"),
        ({"type": "hive", "timestamp_formats": ["HH:mm"]}, "has no year"),
        ({"type": "hive", "timestamp_formats": ["yyyy-yyyy"]}, "has 'y' twice"),
        ({"type": "hive", "timestamp_formats": ["y" * 101]}, "1 to 100 characters"),
    ],
)
def test_refused(said: Any, message: str) -> None:
    """An unknown name or key, and options that can never work, are refused with what is wrong."""
    with pytest.raises(ValidationError) as refused:
        Where(deserializer=said)
    assert message in f"{refused.value} {refused.value.errors()}"


@pytest.mark.parametrize(
    ("mappings", "dots", "columns", "message"),
    [
        ({"ts": "timestamp"}, False, {"n": "int"}, "the schema has no column 'ts'"),
        ({"a": "B"}, False, {"a": "int", "b": "int"}, "columns 'a' and 'b' are read from the same JSON key 'b'"),
        ({}, True, {"a.b": "int", "a_b": "int"}, "are read from the same JSON key 'a_b'"),
    ],
)
def test_mappings_and_columns(mappings: dict[str, str], dots: bool, columns: dict[str, str], message: str) -> None:
    """Columns that would be read from one and the same key, or a mapping without its column, are refused at once."""
    options = OpenX.Options(column_to_json_key_mappings=mappings, convert_dots_in_json_keys_to_underscores=dots)
    with pytest.raises(ValueError, match=message):
        JsonTable(TableSchema.parsed(columns), OpenX(options))
