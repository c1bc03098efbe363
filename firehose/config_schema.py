"""The configuration file's JSON Schema (draft 2020-12), for editors and for tools that write such files.

Made from the models that read the file, so that the two cannot differ. A plug-in's block is one of the registered
plug-ins' options, told apart by `type`. Any value may be a reference, `${NAME}`, as long as it is written as text.
What only the whole file can tell (names that collide, prefixes that do not parse) is left to `firehose check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from firehose import registry
from firehose.config import STREAM_NAME, Document
from firehose.data_stream_config import DATA_STREAM_NAME

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE: Schema = {"type": "string", "pattern": r"\$\{"}
# Constraints that a reference, being text of its own kind, would not meet.
CONSTRAINTS = frozenset({"pattern", "enum", "const", "maxLength", "minLength"})


def schema(names: Callable[[str], Iterable[str]] = registry.names) -> Schema:
    """The schema of the whole file. `names` answers the plug-ins of a kind; by default all that are installed."""
    options = {(kind, name): registry.options(kind, name) for kind in registry.TABLES for name in names(kind)}
    models = [(model, "validation") for model in (Document, *options.values())]
    places, whole = models_json_schema(models, by_alias=True)  # type: ignore[arg-type]
    definitions: dict[str, Schema] = {name: _open(said) for name, said in whole["$defs"].items()}
    for (_, name), model in options.items():
        _discriminated(definitions[_target(places[model, "validation"])], name)

    def one_of(kind: str) -> Schema:
        refs = [dict(places[model, "validation"]) for (of, _), model in options.items() if of == kind]
        return {"oneOf": refs} if refs else {"not": {}}

    _plug(definitions["Stream"]["properties"], one_of)
    for (kind, _), model in options.items():
        if kind == "destinations":
            own = {**one_of(kind), "description": "where records go that this destination does not take"}
            definitions[_target(places[model, "validation"])]["properties"]["errors"] = own
    document = definitions.pop("Document")
    document["properties"]["data_streams"]["propertyNames"] = {"pattern": f"^{DATA_STREAM_NAME}$"}
    document["properties"]["delivery_streams"]["propertyNames"] = {"pattern": f"^{STREAM_NAME}$"}
    return {"$schema": DRAFT, **document, "title": "firehose configuration", "$defs": definitions}


def _plug(stream: dict[str, Schema], one_of: Callable[[str], Schema]) -> None:
    """Puts the plug-ins' blocks where a stream's model says only that there is one."""
    stream["destination"] = {**one_of("destinations"), "description": "where the records go"}
    stream["destinations"] = {"type": "array", "items": one_of("destinations"), "description": "several of them"}
    stream["errors"] = {**one_of("destinations"), "description": "where records go that can never be delivered"}
    backup = {"properties": {"mode": {"enum": ["all", "failed"], "default": "all"}}, **one_of("destinations")}
    stream["backup"] = {**backup, "description": "where source records (all) or failed ones (failed) go too"}
    stream["source"] = {**one_of("sources"), "description": "what it reads from; left out: records are put to it"}
    stream["transforms"] = {"type": "array", "items": one_of("transforms")}


def _discriminated(options: Schema, name: str) -> None:
    """In a file, `type` is what chooses the plug-in: required, and this one."""
    options["properties"]["type"] = {"const": name}
    options["required"] = sorted({*options.get("required", ()), "type"})


def _target(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _open(model: Schema) -> Schema:
    """A model's schema with references allowed wherever a plain value stands."""
    return {**model, "properties": {key: _or_reference(said) for key, said in model.get("properties", {}).items()}}


def _or_reference(said: Schema) -> Schema:
    if "anyOf" in said:
        return {**said, "anyOf": [*said["anyOf"], REFERENCE]}
    plain = said.get("type") in ("number", "integer", "boolean")
    if not plain and CONSTRAINTS.isdisjoint(said):
        return said
    notes = {key: value for key, value in said.items() if key in ("title", "description", "default")}
    bare = {key: value for key, value in said.items() if key not in notes}
    return {**notes, "anyOf": [bare, REFERENCE]}
