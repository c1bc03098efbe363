"""Test cases of transforms: YAML beside the configuration, each with sample records and what is to become of them.

What a case does not say is expected to be none: no record dropped, none refused, none delivered. What stands in
`lines`, `file` or `json` is as `/ingest` would have stored it, with the stream's delimiter; a text or `base64` is the
record byte for byte.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any

from pydantic import Field, PlainValidator, field_validator, model_validator

from firehose import blocks, yaml_file, yaml_text
from firehose.blocks import MIB, Block
from firehose.config import STREAMS, Config
from firehose.yaml_file import ConfigError, Path, Problem, YamlFile

SUFFIX = ".tests.yaml"
FORMS = ("base64", "file", "json", "lines", "text")
FILE_BYTES = 64 * MIB  # of one file of sample records
RECORDS = 100_000  # of one case, each way: they are held in memory, and compared one by one
NOTHING = object()


@dataclass(frozen=True, slots=True)
class Given:
    """A record that goes in, with the `meta` of its source."""

    record: bytes
    meta: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record that is to come out: these bytes, this JSON value, or (neither) any record at all."""

    record: bytes | None = None
    value: Any = NOTHING
    keys: Mapping[str, str] | None = None  # partition keys; None where the case does not say


class Refusal(Block):
    """A record that is to go to the error output. What is left out may be anything."""

    record: Annotated[int, Field(ge=0)] | None = None
    code: str | None = None
    message: str | None = None

    @field_validator("message")
    @classmethod
    def _pattern(cls, message: str) -> str:
        if (pattern := between_slashes(message)) is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from None
        return message


@dataclass(frozen=True, slots=True)
class Case:
    """One test of one stream's transforms. `dropped` is a count, or the numbers of the records, which count from 0."""

    stream: str
    name: str
    arrival_ms: int
    given: tuple[Given, ...]
    output: tuple[Wanted, ...]
    dropped: int | tuple[int, ...]
    refused: tuple[Refusal, ...]


class ContentBlock(Block):
    """A record, or as many as a file or a text has lines."""

    text: str | None = None
    base64: str | None = None
    lines: str | None = None
    file: Annotated[str, Field(min_length=1)] | None = None
    json_: Annotated[Any, Field(alias="json")] = None

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"text": given}
        if not isinstance(given, dict):
            raise ValueError("must be text (put it in quotes), or a mapping with one of: " + ", ".join(FORMS))
        if len(said := [form for form in FORMS if form in given]) > 1:
            raise ValueError(f"says {' and '.join(said)}: keep one")
        if any(form != "json" and given[form] is None for form in said):
            raise ValueError(f"{said[0]} says nothing; put the text in quotes, even where it is empty")
        return given

    @field_validator("base64")
    @classmethod
    def _decodes(cls, text: str) -> str:
        joined = "".join(text.split())  # long ones stand on several lines
        b64decode(joined, validate=True)  # raises a ValueError that says why not
        return joined

    @field_validator("json_")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        compact(value)
        return value

    @property
    def is_json(self) -> bool:
        return "json_" in self.model_fields_set

    def records(self, folder: FilePath, delimiter: bytes) -> Iterator[bytes]:
        """The records that it stands for. Raises ValueError."""
        if self.text is not None:
            yield self.text.encode()
        elif self.base64 is not None:
            yield b64decode(self.base64)
        elif self.is_json:
            yield compact(self.json_) + delimiter
        elif self.lines is not None:
            yield from (line + delimiter for line in _lines(self.lines.encode()))
        elif self.file is not None:
            yield from (line + delimiter for line in _lines(_content(folder / self.file)))


class GivenBlock(ContentBlock):
    """An entry of `input`. `meta` is what a source says of it, such as its place in a data stream."""

    meta: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _something(self) -> GivenBlock:
        if not {*FORMS, "json_"} & self.model_fields_set:
            raise ValueError("holds no record; give one of: " + ", ".join(FORMS))
        return self

    def given(self, folder: FilePath, delimiter: bytes) -> Iterator[Given]:
        meta = None if self.meta is None else compact(self.meta).decode()
        return (Given(record, meta) for record in self.records(folder, delimiter))


class WantedBlock(ContentBlock):
    """An entry of `output`; `{}` is any record."""

    partition_keys: dict[str, str | int | float | bool] | None = None

    def wanted(self, folder: FilePath, delimiter: bytes) -> Iterator[Wanted]:
        keys = None if self.partition_keys is None else {key: _text(said) for key, said in self.partition_keys.items()}
        if self.is_json:
            yield Wanted(value=self.json_, keys=keys)
        elif not set(FORMS) & self.model_fields_set:
            yield Wanted(keys=keys)
        else:
            yield from (Wanted(record, keys=keys) for record in self.records(folder, delimiter))


def _several(value: Any) -> Any:
    """An entry that stands alone is a list of one."""
    return [value] if isinstance(value, str | dict) else value


def _counted(value: Any) -> Any:
    """A count stands for as many entries that say nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= RECORDS:
            raise ValueError(f"a count is between 0 and {RECORDS}")
        return [{}] * value
    return _several(value)


def _count_or_numbers(value: Any) -> int | tuple[int, ...]:
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in numbers):
        raise ValueError("must be how many records, or a list of their numbers, which count from 0")
    return tuple(sorted(value)) if isinstance(value, list) else int(value)


class CaseBlock(Block):
    """A case as it is written."""

    name: Annotated[str, Field(min_length=1)]
    arrival: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    input: tuple[GivenBlock, ...]
    output: tuple[WantedBlock, ...] = ()
    dropped: Annotated[int | tuple[int, ...], PlainValidator(_count_or_numbers)] = 0
    refused: tuple[Refusal, ...] = ()

    _one_input = field_validator("input", mode="before")(_several)
    _counts = field_validator("output", "refused", mode="before")(_counted)

    @property
    def arrival_ms(self) -> int:
        zoned = self.arrival if self.arrival.tzinfo else self.arrival.replace(tzinfo=UTC)
        return int(zoned.timestamp() * 1000)


class Document(Block):
    """The whole file."""

    delivery_streams: dict[str, list[Any]] = {}


def beside(config: str) -> str:
    """Where the cases of a configuration are, unless somebody says otherwise."""
    return str(FilePath(config).with_suffix(SUFFIX))


def load(path: str, config: Config) -> list[Case]:
    """The cases in a file, in its order. Raises `ConfigError` with everything that is wrong."""
    try:
        file = yaml_text.parse(path, FilePath(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(path, [Problem(0, "", f"cannot be read: {reason}")]) from None
    document = blocks.read(Document, file.data, (), file)
    streams = document.delivery_streams if isinstance(document, Document) else {}
    cases = [case for stream, raws in streams.items() for case in _cases(stream, raws, config, file)]
    file.check()
    return cases


def _cases(stream: str, raws: list[Any], config: Config, file: YamlFile) -> Iterator[Case]:
    if stream not in config.streams:
        hint = yaml_file.nearest(stream, list(config.streams))
        return file.complain((STREAMS, stream), f"{config.name} has no such delivery stream; {hint}")
    seen = Counter[str]()
    for index, raw in enumerate(raws):
        path: Path = (STREAMS, stream, index)
        block = blocks.read(CaseBlock, raw, path, file)
        if isinstance(block, CaseBlock):
            seen[block.name] += 1
            if seen[block.name] == 2:
                file.complain((*path, "name"), f"two cases are called '{block.name}'; give each a name of its own")
            yield _case(stream, block, config.streams[stream].delimiter, path, file)
    return None


def _case(stream: str, block: CaseBlock, delimiter: bytes, path: Path, file: YamlFile) -> Case:
    folder = FilePath(file.name).parent
    given: list[Given] = []
    output: list[Wanted] = []
    for index, entry in enumerate(block.input):
        with _complaints(file, (*path, "input", index)):
            given += entry.given(folder, delimiter)
    for index, expected in enumerate(block.output):
        with _complaints(file, (*path, "output", index)):
            output += expected.wanted(folder, delimiter)
    for key, records in (("input", given), ("output", output)):
        if len(records) > RECORDS:
            file.complain((*path, key), f"holds {len(records)} records, more than {RECORDS}")
    if not given and not file.problems:
        file.complain((*path, "input"), "holds no record")
    return Case(stream, block.name, block.arrival_ms, tuple(given), tuple(output), block.dropped, _in_order(block))


def _in_order(block: CaseBlock) -> tuple[Refusal, ...]:
    """Refusals as records are refused: by number, where all of them have one."""
    if any(one.record is None for one in block.refused):
        return block.refused
    return tuple(sorted(block.refused, key=lambda one: one.record or 0))


@contextmanager
def _complaints(file: YamlFile, path: Path) -> Iterator[None]:
    """What cannot be read as records is told with its place."""
    try:
        yield
    except OSError as error:
        file.complain((*path, "file"), f"{error.filename} cannot be read: {error.strerror}")
    except ValueError as error:
        file.complain(path, str(error))


def _content(path: FilePath) -> bytes:
    if path.stat().st_size > FILE_BYTES:
        raise ValueError(f"{path} has more than {FILE_BYTES // MIB} MiB")
    return path.read_bytes()


def _lines(body: bytes) -> list[bytes]:
    """As `/ingest` takes plain lines: the blank ones are none."""
    return [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.strip()]


def compact(value: Any) -> bytes:
    """A value of the file as JSON. Raises ValueError where YAML has read something else into it."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON ({error}); put it in quotes") from None


def between_slashes(message: str) -> str | None:
    """The regular expression that a message is to match; None where it is plain text that it holds."""
    return message[1:-1] if len(message) > 2 and message[0] == message[-1] == "/" else None


def _text(value: str | float | bool) -> str:
    """Partition keys are text, as AWS has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
