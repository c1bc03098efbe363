"""How JSON is read into columns, by name: `deserializer: openx`, or a block with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from firehose.deserializers.deserializer import Deserializer
from firehose.deserializers.hive import Hive
from firehose.deserializers.openx import OpenX
from firehose.deserializers.plain import Plain

__all__ = ["TABLE", "Deserializer", "Deserializers", "Hive", "OpenX", "Options", "Plain", "made"]


def _block(given: Any) -> Any:
    """A bare name is a block without options."""
    return {"type": given} if isinstance(given, str) else given


TABLE: Mapping[str, Callable[[Any], Deserializer]] = {"plain": Plain, "openx": OpenX, "hive": Hive}
Options = Plain.Options | OpenX.Options | Hive.Options
# The type of a field of someone else's block.
Deserializers = Annotated[Annotated[Options, Field(discriminator="type")], BeforeValidator(_block)]


def made(options: Options) -> Deserializer:
    return TABLE[options.type](options)
