"""The prefix-expression language of S3 object names, and the names themselves.

Source: firehose.md section 5 (keys, expressions, error output) and 3.1 (FileExtension, CustomTimeZone).

A name derives from a segment and the stream's definition, never from a clock or dice: a repeated delivery
overwrites its own object, and never another's. Two rules are stricter than AWS's: prefixes are measured in
UTF-8 bytes, as S3 measures keys; and they must not lead out of a folder (control characters, a leading '/',
segments '.' and '..'), because the same names serve local folders. One is milder: a Prefix with expressions
needs an ErrorOutputPrefix only where both share a bucket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo, available_timezones

from firehose.java_time import REFUSAL, InvalidPattern, compile_pattern
from firehose.model import Segment
from firehose.partitions import FROM_COLUMN, FROM_LAMBDA, FROM_QUERY

PartitionKeys = Mapping[str, Mapping[str, str]]  # namespace -> key -> value

PARTITION_NAMESPACES = (FROM_QUERY, FROM_LAMBDA)
PREFIX_LIMIT_BYTES = 512  # evaluated; a date that we append does not count
KEY_LIMIT_BYTES = 1024  # S3's own
PART_LIMIT_BYTES = 255  # of what stands between two slashes, on nearly all file systems
# Every error-output-type that AWS knows (firehose.md section 5.2), then ours.
ERROR_TYPES = frozenset(
    {
        "processing-failed",
        "format-conversion-failed",
        "AmazonOpenSearchService-failed",
        "elasticsearch-failed",
        "splunk-failed",
        "http-endpoint-failed",
        "snowflake-failed",
        "decompression-failed",
        "activePartitionExceeded",
        "metadata-extraction-failed",
        "iceberg-failed",
        "ingest-failed",
        "delivery-failed",
        "redshift-failed",
    }
)


# The language


@dataclass(frozen=True, slots=True)
class Expression:
    """`!{namespace:value}`"""

    namespace: str
    value: str

    def __str__(self) -> str:
        return f"!{{{self.namespace}:{self.value}}}"


Template = tuple[str | Expression, ...]

_EXPRESSION = re.compile(rf"!\{{(timestamp|firehose|{'|'.join(PARTITION_NAMESPACES)}):([^}}]*)\}}")
_DATE = Expression("timestamp", "yyyy/MM/dd/HH/")
_RANDOM = Expression("firehose", "random-string")
_ERROR_TYPE = Expression("firehose", "error-output-type")


def parse(text: str | None) -> Template:
    """Literals and expressions in turn. A '!{' without a valid expression stays literal: see `problems`."""
    pieces: list[str | Expression] = []
    end = 0
    for match in _EXPRESSION.finditer(text or ""):
        pieces += (match.string[end : match.start()], Expression(match[1], match[2]))
        end = match.end()
    pieces.append((text or "")[end:])
    return tuple(piece for piece in pieces if piece)


def expressions(template: Template, *namespaces: str) -> list[Expression]:
    """The template's expressions, of these namespaces where some are given."""
    found = [piece for piece in template if isinstance(piece, Expression)]
    return [piece for piece in found if piece.namespace in (namespaces or (piece.namespace,))]


def keys(text: str | None) -> PartitionKeys:
    """The partition keys that a prefix names, by namespace, each with a value to try it with."""
    template = parse(text)
    found = {space: {one.value: "0" for one in expressions(template, space)} for space in PARTITION_NAMESPACES}
    return {space: names for space, names in found.items() if names}


def is_literal(text: str | None) -> bool:
    """Whether a prefix has no expressions."""
    return not expressions(parse(text))


@dataclass(frozen=True, slots=True)
class _Values:
    """What the expressions of one name stand for."""

    instant: datetime
    identity: UUID
    error_type: str
    partition_keys: PartitionKeys


Evaluate = Callable[[_Values], str]


def _compile(template: Template) -> Evaluate:
    parts = [_part(piece, index) for index, piece in enumerate(template)]
    return lambda values: "".join([part(values) for part in parts])


def _part(piece: str | Expression, index: int) -> Evaluate:
    match piece:
        case str():
            return lambda values: piece
        case Expression("timestamp", pattern):
            render = compile_pattern(pattern)
            return lambda values: render(values.instant)
        case Expression("firehose", "random-string"):
            return lambda values: str(uuid5(values.identity, f"random-string {index}"))[:11]
        case Expression("firehose", _):
            return lambda values: values.error_type
        case Expression(namespace, key):
            return lambda values: values.partition_keys[namespace][key]


def rendered(piece: str | Expression, index: int, instant: datetime, identity: UUID) -> str:
    """What a piece of a template without partition keys comes to, at its place in it."""
    return _part(piece, index)(_Values(instant, identity, "", {}))


def _longest(evaluate: Evaluate, zone: tzinfo, keys: PartitionKeys) -> str:
    """What a template comes to at its longest: on a Wednesday in September, in the afternoon or at eleven."""
    instants = [datetime(2026, 9, 30, hour, 59, 59, tzinfo=zone) for hour in (12, 23)]
    error_type = "AmazonOpenSearchService-failed"
    return max((evaluate(_Values(at, UUID(int=0), error_type, keys)) for at in instants), key=len)


# What is wrong with a configuration


def problems(
    prefix: str | None,
    error_output_prefix: str | None,
    *,
    time_zone: str = "UTC",
    file_extension: str = "",
    partitioned: bool | None = False,
    expressions_allowed: bool = True,
    errors_share_bucket: bool = False,
) -> list[str]:
    """Everything that is wrong, in AWS's words where these are known; an empty list says that all is fine. Whether the
    stream is `partitioned` may not be known (None).
    """
    data, error = parse(prefix), parse(error_output_prefix)
    zone_problems = list(_time_zone_problems(time_zone))
    zone = UTC if zone_problems else zone_named(time_zone)
    return [
        *_template_problems("Prefix", data, zone),
        *_template_problems("ErrorOutputPrefix", error, zone),
        *_prefix_problems(data, partitioned),
        *_error_prefix_problems(error),
        *_pair_problems(data, error, expressions_allowed, errors_share_bucket),
        *zone_problems,
        *_extension_problems(file_extension),
    ]


def _template_problems(name: str, template: Template, zone: tzinfo) -> Iterator[str]:
    """What is asked of both prefixes."""
    if sum(len(str(piece)) for piece in template) > 1024:
        yield f"{name} must have at most 1024 characters"
    if any("!{" in piece for piece in template if isinstance(piece, str)):
        yield f"{name}: '!{{' may only start a valid expression, such as {_RANDOM}"
    values = list(_value_problems(name, template))
    yield from values or _evaluated_problems(name, template, zone)


def _value_problems(name: str, template: Template) -> Iterator[str]:
    for expression in expressions(template):
        if detail := _value_problem(expression):
            yield f"{REFUSAL} in {name}: {expression}: {detail}"


def _value_problem(expression: Expression) -> str:
    if not expression.value or "!{" in expression.value:
        return "a value is missing, or a closing '}'"
    if expression.namespace == "firehose":
        known = expression in (_RANDOM, _ERROR_TYPE)
        return "" if known else f"there are only {_RANDOM.value} and {_ERROR_TYPE.value}"
    if expression.namespace == "timestamp":
        try:
            compile_pattern(expression.value)
        except InvalidPattern as error:
            return error.detail
    return ""


# What would lead a name out of its folder, or is no text that S3 takes.
_TRICK = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|(?<![^/])\.{1,2}(?![^/])")


def _evaluated_problems(name: str, template: Template, zone: tzinfo) -> Iterator[str]:
    try:
        text = _longest(_compile(template), zone, keys("".join(map(str, template))))
    except InvalidPattern as error:  # a name of the time zone that nobody here knows
        yield f"{REFUSAL} in {name}: {error.detail}"
        return
    if _TRICK.search(text):
        yield f"{name} must not start with '/', have a segment '.' or '..', or contain control characters"
    elif len(text.encode()) > PREFIX_LIMIT_BYTES:
        yield _too_long(name)


def _too_long(name: str) -> str:
    evaluated = "prefix" if name == "Prefix" else name
    return f"Length of evaluated {evaluated} cannot be greater than {PREFIX_LIMIT_BYTES}"


def _prefix_problems(template: Template, partitioned: bool | None) -> Iterator[str]:
    keys = expressions(template, *PARTITION_NAMESPACES)
    if _ERROR_TYPE in template:
        yield f"Prefix must not contain {_ERROR_TYPE}; it belongs in ErrorOutputPrefix"
    if keys and partitioned is False:
        yield (
            "Dynamic Partitioning Namespaces can only be part of a prefix expression "
            "when Dynamic Partitioning is enabled."
        )
    if partitioned and not keys:
        yield "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled"


def _error_prefix_problems(template: Template) -> Iterator[str]:
    if expressions(template, *PARTITION_NAMESPACES):
        yield "Dynamic Partitioning Namespaces can't be part of an error prefix expression"
    if expressions(template) and _ERROR_TYPE not in template:
        yield f"ErrorOutputPrefix must contain at least one occurrence of {_ERROR_TYPE}"


def _pair_problems(
    data: Template, error: Template, expressions_allowed: bool, errors_share_bucket: bool
) -> Iterator[str]:
    if not expressions_allowed and (expressions(data) or error):
        yield "Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination"
    elif errors_share_bucket and expressions(data) and not error:
        yield "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions"


_TIME_ZONE = re.compile(r"|UTC|[a-zA-Z_]+(/[a-zA-Z_]+)+")
_EXTENSION = re.compile(r"|\.[0-9a-z!\-_.*'()]+")


def zone_named(name: str) -> tzinfo:
    return UTC if name in ("", "UTC") else ZoneInfo(name)


def _time_zone_problems(name: str) -> Iterator[str]:
    if len(name) > 50 or not _TIME_ZONE.fullmatch(name):
        yield f"CustomTimeZone must be UTC or an area and city such as Europe/Berlin, not {name!r}"
        return
    try:
        zone_named(name)
    except (LookupError, OSError):  # an area without a city is a folder to some versions of Python
        nearest = get_close_matches(name, sorted(available_timezones()), n=1)
        hint = "".join(f"; did you mean {other}?" for other in nearest)
        yield f"CustomTimeZone {name!r} is not in the time zone database{hint}"


def _extension_problems(extension: str) -> Iterator[str]:
    if len(extension) > 128 or not _EXTENSION.fullmatch(extension):
        yield (
            "FileExtension must be empty, or a '.' followed by 1 to 127 of the characters "
            f"0-9 a-z ! - _ . * ' ( ), not {extension!r}"
        )


# The names

_SUFFIX_TIME = compile_pattern("yyyy-MM-dd-HH-mm-ss")
SUFFIX = re.compile(
    r"-\d+-(?P<time>\d{4}(?:-\d\d){5})-(?P<identity>[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"
    r"(?:\.[0-9a-z!\-_.*'()]+)?$"
)
_IDENTITY_NAMESPACE = UUID("8d0d5a5e-3c55-4ab3-9a0e-6f1d3f6f2b67")  # drawn once; never to be changed


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """The object names of one version of a delivery stream. Raises ValueError with all `problems` when made.

    `extension` is the final one: the compression's or format's, or the FileExtension that replaces it.
    """

    prefix: str | None = None
    error_output_prefix: str | None = None
    time_zone: str = "UTC"
    extension: str = ""
    _zone: tzinfo = field(init=False, repr=False, compare=False)
    _data: Evaluate = field(init=False, repr=False, compare=False)
    _bare: Evaluate = field(init=False, repr=False, compare=False)  # without a date of ours: columns follow
    _error: Evaluate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = problems(
            self.prefix,
            self.error_output_prefix,
            time_zone=self.time_zone,
            file_extension=self.extension,
            partitioned=None,
        )
        if found:
            raise ValueError("; ".join(found))
        object.__setattr__(self, "_zone", zone_named(self.time_zone))
        object.__setattr__(self, "_data", _compile(data_template(self.prefix)))
        object.__setattr__(self, "_bare", _compile(parse(self.prefix)))
        object.__setattr__(self, "_error", _compile(_error_template(self.prefix, self.error_output_prefix)))

    def data(self, segment: Segment, partition_keys: PartitionKeys | None = None, discriminator: str = "") -> str:
        """The object of a segment, or of one partition's cut: then `discriminator` tells the cuts apart."""
        identity = self.identity(segment, discriminator)
        values = _Values(self._local(segment), identity, "", partition_keys or {})
        return _key(self._evaluate(values.partition_keys), values, segment, self.extension)

    def error(self, segment: Segment, error_type: str, discriminator: str = "", extension: str | None = None) -> str:
        """The error output object of a segment's rows that ended as `error_type`."""
        identity = self.identity(segment, f"{error_type}/{discriminator}")
        values = _Values(self._local(segment), identity, error_type, {})
        return _key(self._error, values, segment, self.extension if extension is None else extension)

    def error_type(self, name: str, stream: str) -> str | None:
        """The error-output-type of one of the stream's own error objects, whatever its extension; None for any other
        name. It is made anew from what the name tells and compared, as far as fractions of a second allow.
        """
        found = self._error_head(stream).match(name)
        if found is None:
            return None
        try:
            instant = datetime.strptime(found["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=self._zone)
        except ValueError:
            return None
        values = [_Values(instant.replace(fold=fold), UUID(found["identity"]), found["type"], {}) for fold in (0, 1)]
        made = {_tame(self._error(one)) for one in values}
        fraction = _Values(instant.replace(microsecond=999_999), UUID(found["identity"]), found["type"], {})
        exact = self._error(fraction) == self._error(values[0])
        return found["type"] if found["head"] in made or not exact else None

    def _error_head(self, stream: str) -> re.Pattern[str]:
        pieces = "".join(_loosely(_error_template(self.prefix, self.error_output_prefix)))
        return re.compile(f"(?P<head>{pieces}){re.escape(stream)}{SUFFIX.pattern}")

    def _evaluate(self, partition_keys: PartitionKeys) -> Evaluate:
        """The prefix, and the columns' folders behind it, where there are any."""
        columns = partition_keys.get(FROM_COLUMN)
        if not columns:
            return self._data
        folders = "".join(f"{_hive_text(name)}={_hive_text(value)}/" for name, value in columns.items())
        return lambda values: self._bare(values) + folders

    def refusal(self, partition_keys: PartitionKeys, *, local: bool = False) -> str | None:
        """Why rows with these partition keys cannot be delivered: their evaluated prefix is too long; a part of it is,
        where the names are those of `local` files.
        """
        evaluated = _tame(_longest(self._evaluate(partition_keys), self._zone, partition_keys))
        if len(evaluated.encode()) > PREFIX_LIMIT_BYTES:
            return _too_long("Prefix")
        longest = max(len(part.encode()) for part in evaluated.split("/"))
        if local and longest > PART_LIMIT_BYTES:
            return f"Length of a folder's name cannot be greater than {PART_LIMIT_BYTES}"
        return None

    @staticmethod
    def identity(segment: Segment, discriminator: str) -> UUID:
        """The uuid in the name: uuid5 (SHA-1) of the JSON array [stream, lane, first, count, discriminator].

        It may never change: a delivery repeated after an upgrade must find its object.
        """
        parts = [segment.stream, segment.lane, segment.first, segment.count, discriminator]
        return uuid5(_IDENTITY_NAMESPACE, json.dumps(parts))

    def _local(self, segment: Segment) -> datetime:
        return segment.opened_at.astimezone(self._zone)


_HIVE_SPECIAL = re.compile(r"""[\x00-\x1f\x7f"#%'*/:=?\\{\[\]^]""")


def data_template(prefix: str | None) -> Template:
    template = parse(prefix)
    dated = expressions(template, "timestamp", *PARTITION_NAMESPACES)
    return template if dated else (*template, _DATE)


def _error_template(prefix: str | None, error_output_prefix: str | None) -> Template:
    template = parse(error_output_prefix)
    if expressions(template):
        return template
    if not template:
        template = parse(prefix)
    if expressions(template, *PARTITION_NAMESPACES):
        template = ()  # AWS has no such case: rows in error have no partition
    return (*template, _ERROR_TYPE, "/", _DATE)


def _loosely(template: Template) -> Iterator[str]:
    """Expressions that match whatever the pieces may come to."""
    typed = False
    for piece in template:
        if isinstance(piece, str):
            yield re.escape(piece)
        elif piece == _ERROR_TYPE:
            yield "(?P=type)" if typed else "(?P<type>[^/]{1,128}?)"
            typed = True
        else:
            yield "[0-9a-f-]{11}" if piece == _RANDOM else ".{1,128}?"


def _key(evaluate: Evaluate, values: _Values, segment: Segment, extension: str) -> str:
    """Raises ValueError for a name too long for S3, which only values of partition keys can bring about."""
    time = _SUFFIX_TIME(values.instant)
    key = f"{_tame(evaluate(values))}{segment.stream}-{segment.version}-{time}-{values.identity}{extension}"
    if len(key.encode()) > KEY_LIMIT_BYTES:
        raise ValueError(f"an object name of {len(key.encode())} bytes; S3 takes {KEY_LIMIT_BYTES}")
    return key


def _tame(prefix: str) -> str:
    """Percent-encodes what would lead out of a folder: the values of partition keys come from records."""
    return _TRICK.sub(_percent_encoded, prefix)


def _hive_text(text: str) -> str:
    """As Hive and Spark write names and values of columns in a path; readers know how to undo it."""
    return _HIVE_SPECIAL.sub(_percent_encoded, text)


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
