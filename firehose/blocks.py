"""Blocks of the configuration file, and what people are told about one that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from firehose import yaml_file
from firehose.yaml_file import Path, YamlFile

MIB = 1024 * 1024
GIB = 1024 * MIB
LARGEST = 1e12  # of what has no bound of its own: a float of bytes or seconds is still far from infinite


class Block(BaseModel):
    """A block of the file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def read(model: type[Block], data: Any, path: Path, file: YamlFile) -> Block | None:
    """The block; None where anything is wrong, of all of which `file` is then told."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        complain(error, model, path, file)
        return None


def complain(error: ValidationError, model: type[Block], path: Path, file: YamlFile) -> None:
    """Tells `file` of each thing that is wrong, with its key and the way out."""
    for detail in error.errors(include_url=False, include_context=True):
        place = _place(path, detail["loc"], file)
        file.complain(place, _message(model, detail, place, file))


def _place(path: Path, loc: tuple[str | int, ...], file: YamlFile) -> Path:
    """Where in the file it is: without the steps that stand for a choice, of a key or of one of several blocks."""
    for step in loc:
        block = file.written(path)
        chosen = isinstance(block, dict) and step not in block and block.get("type") == step
        path = path if chosen or step == "[key]" else (*path, step)
    return path


def _message(model: type[Block], detail: Mapping[str, Any], place: Path, file: YamlFile) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key; {yaml_file.nearest(str(detail['loc'][-1]), _keys(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return "is missing; give it a value"
    if detail["type"] == "union_tag_invalid":
        context = detail["ctx"]
        choices = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
        return f"unknown type; {yaml_file.nearest(str(context['tag']), choices)}"
    if detail["type"] == "union_tag_not_found":
        return f"has no type: choose from {', '.join(_tags(model, detail['loc']))}"
    if detail["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"must be a mapping of keys to values{yaml_file.shown(file, place)}"
    if detail["type"] in ("tuple_type", "list_type"):
        return (
            f"must be a list; write '- ' before each of its entries, or [...] around them{yaml_file.shown(file, place)}"
        )
    if detail["type"] == "string_type" and file.written(place) is None:
        return "has no value; within { } a text that holds a comma needs quotes"
    if detail["type"] == "string_type" and isinstance(file.written(place), int | float | date):
        return f"must be text; put it in quotes{yaml_file.shown(file, place)}"
    text = str(detail["msg"]).removeprefix("Value error, ")
    return text[0].lower() + text[1:] + yaml_file.shown(file, place)


def _keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the block at `loc` may have."""
    return [field.alias or name for one in _at(model, loc) for name, field in one.model_fields.items()]


def _tags(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The types that the block at `loc` may be of."""
    return [tag for one in _at(model, loc) for tag in get_args(one.model_fields["type"].annotation)]


def _at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """The models that a block at `loc` may follow. A step is a field, a type that chooses, or a place in a list."""
    models = [model]
    for step in loc:
        inner = [named for one in models for named in _named(one, step)]
        models = inner or [one for one in models if _has_type(one, step)] or models
    return models


def _named(model: type[BaseModel], step: str | int) -> Iterator[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if step in (name, field.alias):
            yield from _models(field.annotation)


def _has_type(model: type[BaseModel], step: str | int) -> bool:
    return "type" in model.model_fields and step in get_args(model.model_fields["type"].annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
