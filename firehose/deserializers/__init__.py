"""How JSON is read into columns, by name: `deserializer: openx`, or a block with its options."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from firehose.deserializers.deserializer import Deserializer
from firehose.deserializers.hive import Hive
from firehose.deserializers.openx import OpenX
from firehose.deserializers.plain import Plain

__all__ = ["Deserializer", "Deserializers", "Hive", "OpenX", "Options", "Plain", "made"]


def _block(given: Any) -> Any:
    """A bare name is a block without options."""
    return {"type": given} if isinstance(given, str) else given


Options = Plain.Options | OpenX.Options | Hive.Options
# The type of a field of someone else's block.
Deserializers = Annotated[Annotated[Options, Field(discriminator="type")], BeforeValidator(_block)]


def made(options: Options) -> Deserializer:
    match options:
        case OpenX.Options():
            return OpenX(options)
        case Hive.Options():
            return Hive(options)
    return Plain(options)
