"""Lines of logs become JSON objects: web servers' access logs, syslog, or whatever a pattern of the user's own finds.

A record is one line; a newline at its end stays. What does not fit is refused, line by line, and says why. Expressions
are RE2's, whose time is linear in the line: no line can hang a delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_validator, model_validator

from firehose import naming, yaml_file
from firehose.json_text.columns import objects, quoted, texts
from firehose.logs.formats import FORMATS, LogFormat, Type, custom
from firehose.logs.values import Company, to_json
from firehose.model import Outcome, Rejections
from firehose.patterns import group_names
from firehose.registry import Site
from firehose.rows import refused_each, replaced
from firehose.stream_config import TransformBlock

LINE = "line"


class LogToJsonOptions(TransformBlock):
    """`type: log_to_json`."""

    type: Literal["log_to_json"] = "log_to_json"
    format: Literal["apache", "apache_common", "apache_combined", "nginx", "syslog_rfc3164", "syslog_rfc5424", "custom"]
    pattern: Annotated[str, Field(max_length=4096)] | None = None
    types: dict[str, Type] = {}
    time_zone: str = "UTC"
    keep_line: bool = False
    errors: Literal["refuse", "replace"] = "refuse"

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        if pattern is not None and info.data.get("format") not in (None, "custom"):
            raise ValueError("is only for format: custom; choose that, or leave the pattern out")
        if pattern is not None:
            group_names(pattern)
        return pattern

    @field_validator("time_zone")
    @classmethod
    def _time_zone(cls, name: str) -> str:
        if found := "; ".join(naming.problems(None, None, time_zone=name)):
            raise ValueError(found)
        return name

    @model_validator(mode="after")
    def _fits(self) -> LogToJsonOptions:
        if self.format == "custom" and self.pattern is None:
            raise ValueError(
                "format: custom has no pattern; give one, such as pattern: '^(?P<level>\\w+) (?P<text>.*)$'"
            )
        for name in self.types:
            if name not in self.typed:
                raise ValueError(
                    f"types has '{name}', which is no value with a type; {yaml_file.nearest(name, self.typed)}"
                )
        if self.keep_line and LINE in self.typed:
            raise ValueError(f"keep_line adds a field '{LINE}', which the pattern has; call its group something else")
        return self

    @property
    def shape(self) -> LogFormat:
        """The lines to be read, with the types that the user wants of their values."""
        chosen = custom(self.pattern, group_names(self.pattern)) if self.pattern else FORMATS[self.format]
        fields = (replace(field, kind=self.types.get(field.name, field.kind)) for field in chosen.fields)
        return replace(chosen, fields=tuple(fields))

    @property
    def typed(self) -> list[str]:
        """The fields whose type is the user's to choose: those that stand in the line as they are."""
        return [field.name for field in self.shape.fields if field.name == field.group and field.kind in get_args(Type)]


class LogToJson:
    """Reads each slice column by column: all lines' hosts, then all their times, and so on."""

    Options: ClassVar[type[TransformBlock]] = LogToJsonOptions
    repeatable = True

    def __init__(self, options: LogToJsonOptions, site: Site | None = None) -> None:
        self._options = options
        self._format = options.shape
        self._zone = ZoneInfo(options.time_zone or "UTC")

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        text = texts(rows.column("record"), self._options.errors)
        lines = pc.ascii_rtrim(text, "\r\n")
        extra = [(LINE, quoted(lines))] if self._options.keep_line else []
        made = objects([*self._fields(lines, rows), *extra], _endings(text))
        if not made.null_count:
            return Outcome(replaced(rows, made.cast(pa.binary())))
        good = made.is_valid()
        refused = self._refused(rows.filter(pc.invert(good)))
        return Outcome(replaced(rows.filter(good), made.drop_null().cast(pa.binary())), refused)

    def _fields(self, lines: pa.StringArray, rows: pa.RecordBatch) -> list[tuple[str, pa.StringArray]]:
        found = pc.extract_regex(lines, self._format.pattern)
        groups = dict(zip(found.type.names, found.flatten(), strict=True))
        company = Company(rows.column("arrival_ms"), self._zone)
        return [(field.name, to_json(field.kind, groups[field.group], company)) for field in self._format.fields]

    def _refused(self, rows: pa.RecordBatch) -> Rejections:
        """Each of the rows for its own reason. They are few, so that reading them again costs less than to keep all."""
        lines = pc.ascii_rtrim(texts(rows.column("record"), self._options.errors), "\r\n")
        unlike = pc.extract_regex(lines, self._format.pattern).is_null().to_pylist()
        wrong = [(name, column.is_null().to_pylist()) for name, column in self._fields(lines, rows)]
        reasons = [
            self._reason(line, unlike[at], [name for name, is_wrong in wrong if is_wrong[at]])
            for at, line in enumerate(lines.to_pylist())
        ]
        return refused_each(rows, "processing-failed", reasons)

    def _reason(self, line: str | None, unlike: bool, wrong: Sequence[str]) -> tuple[str, str]:
        if line is None:
            return "Log.NotUtf8", "The line is not UTF-8; errors: replace takes it with U+FFFD for what is not"
        if unlike:
            return "Log.NotParsed", f"The line is not of format {self._options.format}; a record must be one whole line"
        kinds = {field.name: WANTED.get(field.kind, "text") for field in self._format.fields}
        if wrong[0] not in self._options.typed:
            return "Log.WrongType", f"{wrong[0]} is not {kinds[wrong[0]]}; correct whoever writes such lines"
        return "Log.WrongType", f"{wrong[0]} is not {kinds[wrong[0]]}; types: {{{wrong[0]}: text}} takes it as it is"


WANTED = {
    "int": "a whole number",
    "float": "a number",
    "timestamp": "a time of a known form",
    "facility": "of a priority from 0 to 191",
}


def _endings(text: pa.StringArray) -> pa.StringArray:
    """The newline that each line came with."""
    return pc.if_else(pc.ends_with(text, "\r\n"), "\r\n", pc.if_else(pc.ends_with(text, "\n"), "\n", ""))
