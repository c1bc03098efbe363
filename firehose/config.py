"""What a configuration file may say, and how it is read: the only file that reads the environment.

Unknown keys are refused, every problem of a file is reported at once, and a stream's definition is kept as it was
written (`Definition`), with its references unresolved, so that the catalogue never holds a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator

from firehose import blocks, data_stream_config, registry, yaml_file
from firehose.blocks import LARGEST, MIB, Block
from firehose.buffer import layout
from firehose.catalogue import BACKUP, backup_block
from firehose.data_stream_config import DATA_STREAMS, DataStreamConfig, DataStreamDefaults, DataStreamOptions
from firehose.partitioning import checks
from firehose.schemas.connection import connected_as
from firehose.stream_config import DestinationBlock, SourceBlock, Stream, StreamConfig, TransformBlock
from firehose.yaml_file import ConfigError, Path, Problem, YamlFile

STREAMS = "delivery_streams"
STREAM_NAME = r"(?!\.{1,2}$)[a-zA-Z0-9_.-]{1,64}"
# Keys of a destination that follow a segment's own version of the definition; the others follow the newest.
SEGMENT_KEYS = ("prefix", "time_zone", "file_extension", "compression", "format", "delimiter", "where")
CORE_COLUMNS_MIB = 32  # of segments that are made into columns at once, for each core
WORKER_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "USER", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


class ServiceOptions(Block):
    """The process: where it listens, where it keeps its data, and the bounds of intake."""

    listen: Annotated[str, Field(pattern=r"^.*:\d{1,5}$")] = "127.0.0.1:4573"
    data_dir: str = "data"
    region: str = "us-east-1"
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")] = "000000000000"
    drain_seconds: Annotated[float, Field(ge=0, le=LARGEST)] = 30
    reserve_mib: Annotated[float, Field(ge=0, le=LARGEST)] = 256
    delivery: Literal["process", "inline"] = "process"
    api_keys: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()  # an empty one would let everybody in
    sync_threads: Annotated[int, Field(ge=1, le=256)] = 32
    seals_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    commit_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 10
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 2
    connections: Annotated[int, Field(ge=1, le=LARGEST)] = 4096
    in_flight_mib: Annotated[float, Field(gt=0, le=LARGEST)] = 256
    body_limit_mib: Annotated[float, Field(gt=0, le=1024)] = 64
    decoded_limit_mib: Annotated[float, Field(gt=0, lt=1024)] = 64
    request_id_hours: Annotated[float, Field(gt=0, le=LARGEST)] = 24
    body_limit_records: Annotated[int, Field(ge=1, le=LARGEST)] = 1_000_000
    queue_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 1
    header_limit_kib: Annotated[float, Field(gt=0, le=LARGEST)] = 64
    header_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 10
    body_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 60
    keep_alive_seconds: Annotated[int, Field(ge=1, le=LARGEST)] = 95
    data_stream_defaults: DataStreamDefaults = DataStreamDefaults()
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("listen")
    @classmethod
    def _port(cls, listen: str) -> str:
        if not 0 <= int(listen.rpartition(":")[2]) <= 65535:
            raise ValueError("the port must be between 0 and 65535")
        return listen

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]") or "0.0.0.0", int(port)


class DeliveryOptions(Block):
    """The delivery half: how much it works on at once."""

    in_flight_mib: Annotated[float, Field(gt=0, le=LARGEST)] = 512
    columns_in_flight_mib: Annotated[float, Field(gt=0, le=LARGEST)] | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 4
    spare_cores: Annotated[int, Field(ge=0, le=1024)] = 1
    segments_per_stream: Annotated[int, Field(ge=1, le=64)] = 4
    backoff_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 1
    backoff_limit_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 120
    probe_seconds: Annotated[float, Field(gt=0, le=LARGEST)] = 60

    @property
    def columns_in_flight_bytes(self) -> int:
        """Of a stream's segments that one destination makes into columns at once; where nothing is said, by cores."""
        said = self.columns_in_flight_mib
        return int(MIB * (CORE_COLUMNS_MIB * (os.cpu_count() or 1) if said is None else said))


class Document(Block):
    """The whole file."""

    service: ServiceOptions = ServiceOptions()
    delivery: DeliveryOptions = DeliveryOptions()
    data_streams: dict[str, DataStreamOptions] = {}
    delivery_streams: dict[str, Stream] = {}


@dataclass(frozen=True, slots=True)
class Config:
    """A file, read and checked. `definitions` are the streams as written, references unresolved."""

    name: str
    service: ServiceOptions
    delivery: DeliveryOptions
    streams: Mapping[str, StreamConfig]
    definitions: Mapping[str, dict[str, Any]] = field(repr=False)
    data_streams: Mapping[str, DataStreamConfig] = field(default_factory=dict)


def shared_places(config: Config) -> Iterator[str]:
    """Streams that write to one place: their objects' names cannot collide, but readers may be surprised."""
    seen: dict[object, str] = {}
    for name, stream in config.streams.items():
        for block in stream.destinations.values():
            place = block.place()
            if place is not None and seen.setdefault(place, name) != name:
                where = " ".join(part for part in place if part)
                yield f"delivery streams '{seen[place]}' and '{name}' write to one place: {where}"


def load(path: str) -> Config:
    """Reads a configuration file. Raises `ConfigError` with everything that is wrong."""
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, [Problem(0, "", f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem(0, "", f"is not UTF-8 text: {error}")]) from None
    return parse(path, text)


def parse(name: str, text: str, lookup: Callable[[str], str | None] | None = None) -> Config:
    """Reads a configuration from text. `lookup` answers references; by default environment and secret files."""
    from firehose import yaml_text  # now: 1.3 MB that the delivery half, which knows the catalogue, has no use for

    file = yaml_text.parse(name, text)
    if () not in file.lines:  # perhaps it is being written, and a reload must not take that for a wish
        raise ConfigError(name, [Problem(0, "", "is empty; where no stream is wanted, say delivery_streams: {}")])
    if not isinstance(file.data, dict):
        raise ConfigError(name, [Problem(1, "", "must be a mapping: service, delivery_streams, ...")])
    resolved = yaml_file.substitute(file, lookup or reference)
    # The streams one by one: whatever is wrong with one block hides nothing that is wrong with another.
    whole = {key: value for key, value in resolved.items() if key not in (STREAMS, DATA_STREAMS)}
    document = blocks.read(Document, whole, (), file)
    streams = dict(_streams(resolved.get(STREAMS, {}), file))
    defaults = document.service.data_stream_defaults if isinstance(document, Document) else DataStreamDefaults()
    data_streams = {one.name: one for one in data_stream_config.read(resolved.get(DATA_STREAMS, {}), defaults, file)}
    if isinstance(document, Document):
        _keep_out_of_the_buffer(document.service.data_dir, streams, file)
    file.check()
    assert isinstance(document, Document)
    definitions = {name: _pinned(file.data[STREAMS][name], resolved[STREAMS][name]) for name in streams}
    return Config(name, document.service, document.delivery, streams, definitions, data_streams)


def _pinned(written: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as written, but with what shapes its objects' names and bytes resolved: these must not change with
    the environment while a segment follows this version.
    """
    pinned = dict(written)
    if written.get("destination") is not None:
        pinned["destination"] = _pinned_block(written["destination"], resolved["destination"])
    if written.get("destinations") is not None:
        pairs = zip(written["destinations"], resolved["destinations"], strict=True)
        pinned["destinations"] = [_pinned_block(*pair) for pair in pairs]
    if written.get("backup") is not None:
        pinned["backup"] = _pinned_block(written["backup"], resolved["backup"])
    return pinned


def _pinned_block(written: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    pinned = {key: resolved[key] for key in (*SEGMENT_KEYS, "name", "type", "mode") if key in resolved}
    if "format" in pinned:  # with how Glue is reached as written: the catalogue never holds a secret
        pinned["format"] = connected_as(pinned["format"], written["format"])
    return {**written, **pinned}


def stream(name: str, definition: Mapping[str, Any], lookup: Callable[[str], str | None] | None = None) -> StreamConfig:
    """Resolves one stream's definition as the catalogue keeps it. Raises `ConfigError`."""
    file = YamlFile(f"delivery stream {name}", dict(definition))
    resolved = yaml_file.substitute(file, lookup or reference)
    options = _options(resolved, (), file)
    config = _stream(name, options, (), file) if options else None
    file.check()
    assert config is not None
    return config


def own_environment(defaults: Mapping[str, str]) -> dict[str, str]:
    """Ours, for the other half of the service: with these, where it says nothing else."""
    return {**defaults, **os.environ}


def worker_environment() -> dict[str, str]:
    """What of our own environment the user's code may see: where things are and how text is written, no secrets."""
    return {name: os.environ[name] for name in WORKER_ENVIRONMENT if name in os.environ}


def reference(name: str) -> str | None:
    """The value of `${NAME}` or `${file:/path}`; None where there is none."""
    try:
        if not name.startswith("file:"):
            return os.environ.get(name)
        return FilePath(name[5:]).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError):  # not text, or a name that no file can have
        return None


def _streams(definitions: Any, file: YamlFile) -> Iterator[tuple[str, StreamConfig]]:
    if not isinstance(definitions, dict):
        file.complain((STREAMS,), "must be a mapping of names to delivery streams")
        return
    for name, definition in definitions.items():
        path: Path = (STREAMS, name)
        before = len(file.problems)
        options = _options(definition, path, file)
        is_whole = len(file.problems) == before
        config = _stream(name, options, path, file) if options else None
        if config is not None:
            for place, message in _cross_problems(config) if is_whole else ():
                file.complain((*path, *place), message)
            yield name, config


def _cross_problems(config: StreamConfig) -> Iterator[tuple[Path, str]]:
    """What is wrong of one key because of another: to be asked of a definition of which nothing was left out."""
    for place, block in config.blocks():
        yield from (((*place, *key.split(".")), message) for key, message in block.problems(config))
    yield from checks.problems(config)


def _keep_out_of_the_buffer(data_dir: str, streams: Mapping[str, StreamConfig], file: YamlFile) -> None:
    """A start takes every folder in the buffer for a stream's lanes, and removes those that hold no record: objects
    there would be lost.
    """
    buffer = os.path.abspath(layout.buffer_folder(data_dir))
    for name, stream in streams.items():
        for place, block in stream.blocks():
            folder = block.local_folder()
            if folder is not None and os.path.commonpath([buffer, os.path.abspath(folder)]) == buffer:
                message = f"writes into the service's own buffer, {buffer}; choose a folder outside service.data_dir"
                file.complain((STREAMS, name, *place), message)


def _options(definition: Any, path: Path, file: YamlFile) -> Stream | None:
    """The stream's own keys. Those that are wrong are complained of and left out, so that the rest is looked at too."""
    try:
        return Stream.model_validate(definition)
    except ValidationError as error:
        blocks.complain(error, Stream, path, file)
        wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    if not isinstance(definition, dict):
        return None
    return Stream.model_validate({key: value for key, value in definition.items() if key not in wrong})


def _stream(name: str, options: Stream, path: Path, file: YamlFile) -> StreamConfig | None:
    if not re.fullmatch(STREAM_NAME, name):
        file.complain(path, "a stream's name has 1 to 64 of a-z A-Z 0-9 _ . - and is not '.' or '..'")
    blocks = _destination_blocks(options, path, file)
    errors = _errors(options, path, file)
    source = _plugin("sources", options.source, (*path, "source"), file)
    transforms = [
        _plugin("transforms", block, (*path, "transforms", index), file)
        for index, block in enumerate(options.transforms)
    ]
    if any(block is None for block in (*blocks.values(), *transforms)) or not isinstance(source, SourceBlock):
        return None
    destinations = {key: block for key, block in blocks.items() if isinstance(block, DestinationBlock)}
    primary = [block for key, block in destinations.items() if key != BACKUP or options.backup is None]
    own = {key: _own_errors(options, key, block, path, file) for key, block in destinations.items()}
    return StreamConfig(
        name,
        options,
        destinations,
        errors.beside(primary) if isinstance(errors, DestinationBlock) else None,
        source,
        tuple(sorted((one for one in transforms if isinstance(one, TransformBlock)), key=lambda one: one.STAGE)),
        {
            key: block.beside([destinations[key], *primary])
            for key, block in own.items()
            if isinstance(block, DestinationBlock)
        },
    )


def _errors(options: Stream, path: Path, file: YamlFile) -> Block | None:
    """The error output: a backup of what failed is one too."""
    failed = backup_block(options.backup, "failed")
    if failed is not None and options.errors is not None:
        file.complain((*path, "backup"), "with mode failed it is the error output; give errors or backup, not both")
    key, given = ("errors", options.errors) if options.errors is not None else ("backup", failed)
    if given is None:
        return None
    return _error_output(given, _raw_destinations(options), (*path, key), file)


def _own_errors(options: Stream, name: str, destination: DestinationBlock, path: Path, file: YamlFile) -> Block | None:
    """The error output of one destination."""
    if destination.errors is None:
        return None
    raw = _raw_destinations(options)
    names = [str(one.get("name") or one.get("type")) for one in raw]
    index = names.index(name) if name in names else None
    if index is None:
        place: Path = ("backup", "errors")
    else:
        place = ("destination", "errors") if options.destination is not None else ("destinations", index, "errors")
    mine = () if index is None else (raw[index],)
    return _error_output(destination.errors, (*mine, *raw), (*path, *place), file)


def _error_output(
    given: Mapping[str, Any], others: Iterable[Mapping[str, Any]], path: Path, file: YamlFile
) -> Block | None:
    for key in ("where", "errors"):
        if key in given:
            file.complain((*path, key), "an error output takes every letter, and has none itself; leave it out")
    return _plugin("destinations", connected(given, others), path, file)


def connected(given: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """An errors or backup block; the connection it does not speak of is that of the first destination of its type."""
    for other in others:
        if other.get("type") == given.get("type") and registry.has("destinations", str(given.get("type"))):
            keys = registry.destination_options(given["type"]).CONNECTION
            inherited = {} if any(key in given for key in keys) else {key: other[key] for key in keys if key in other}
            return {**inherited, **given}
    return dict(given)


def _raw_destinations(options: Stream) -> tuple[dict[str, Any], ...]:
    return (options.destination,) if options.destination is not None else options.destinations or ()


def _destination_blocks(options: Stream, path: Path, file: YamlFile) -> dict[str, Block | None]:
    if options.destination is not None and options.destinations is not None:
        file.complain((*path, "destinations"), "give destination or destinations, not both")
    if options.destination is not None:
        given = [((*path, "destination"), options.destination)]
    else:
        given = [((*path, "destinations", i), block) for i, block in enumerate(options.destinations or ())]
    wrong = any(
        getattr(options, key) is None and file.written((*path, key)) is not None
        for key in ("destination", "destinations")
    )
    if not given and not wrong:
        file.complain(path, "has no destination; give one, such as destination: {type: folder, path: out}")
    if backup := _backup(options, path, file):
        given.append(((*path, "backup"), backup))
    blocks: dict[str, Block | None] = {}
    for place, raw in given:
        block = _plugin("destinations", raw, place, file)
        name = str(raw.get("name") or raw.get("type") or "")
        if name in blocks:
            file.complain((*place, "name"), f"two destinations are called '{name}'; give each a name: of its own")
        blocks[name] = block
    return blocks


def _backup(options: Stream, path: Path, file: YamlFile) -> dict[str, Any] | None:
    """The destination that gets all source records, where there is one."""
    if options.backup is None:
        return None
    place = (*path, "backup", "mode")
    if options.backup.get("mode", "all") not in ("all", "failed"):
        file.complain(place, f"must be all or failed{yaml_file.shown(file, place)}")
        return None
    if "name" in options.backup:
        file.complain((*path, "backup", "name"), f"its name is '{BACKUP}'; leave it out")
    backup = backup_block(options.backup, "all")
    return connected(backup, _raw_destinations(options)) if backup else None


def _plugin(kind: str, raw: Mapping[str, Any], path: Path, file: YamlFile) -> Block | None:
    """Reads one plug-in's block with the options of its type."""
    chosen = raw.get("type")
    if not isinstance(chosen, str) or not registry.has(kind, chosen):
        table = registry.names(kind)
        hint = yaml_file.nearest(str(chosen), table) if chosen else f"choose from {', '.join(table)}"
        file.complain((*path, "type"), f"{'unknown' if chosen else 'is missing:'} {kind[:-1]} type; {hint}")
        return None
    try:
        options = registry.options(kind, chosen)
    except Exception as error:  # a third party's module may fail in any way
        file.complain((*path, "type"), f"the {kind[:-1]} '{chosen}' cannot be loaded: {error}")
        return None
    return blocks.read(options, raw, path, file)
