"""Blocks of the configuration file, and what people are told about one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

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
        place = (*path, *(step for step in detail["loc"] if step != "[key]"))
        file.complain(place, _message(model, detail, place, file))


def _message(model: type[Block], detail: Mapping[str, Any], place: Path, file: YamlFile) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key; {yaml_file.nearest(str(detail['loc'][-1]), _keys(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return "is missing; give it a value"
    if detail["type"] in ("dict_type", "model_type"):
        return f"must be a mapping of keys to values{yaml_file.shown(file, place)}"
    if detail["type"] == "string_type" and isinstance(file.written(place), int | float | date):
        return f"must be text; put it in quotes{yaml_file.shown(file, place)}"
    text = str(detail["msg"]).removeprefix("Value error, ")
    return text[0].lower() + text[1:] + yaml_file.shown(file, place)


def _keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the block at `loc` may have."""
    for step in loc:
        inner = _field(model, step)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _field(model: type[BaseModel], step: str | int) -> type[BaseModel] | None:
    annotation = model.model_fields[step].annotation if step in model.model_fields else model
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
