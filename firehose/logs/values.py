r"""The values of log lines made into JSON, column by column: one function for each kind of value.

What says nothing, an empty group or a `-`, is JSON's null; only in a message a `-` is what somebody wrote. A value that
cannot be what it should be becomes null, the column's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from firehose.json_text.columns import NULL, changed, each, integers, numbers, quoted
from firehose.logs.formats import FACILITIES, SEVERITIES, Kind
from firehose.logs.times import iso

DAY_MS = 86_400_000
PRIORITIES = pa.array([str(n) for n in range(len(FACILITIES) * len(SEVERITIES))])


@dataclass(frozen=True, slots=True)
class Company:
    """What a value's JSON may depend on beside the value: when the records arrived, and the zone of plain times."""

    arrival_ms: pa.Int64Array
    zone: ZoneInfo


def to_json(kind: Kind, column: pa.StringArray, company: Company) -> pa.StringArray:
    """The JSON of each value of a column."""
    silent = pc.is_in(column, pa.array([""] if kind == "message" else ["", "-"]))
    return pc.if_else(silent, NULL, CONVERT[kind](column, company))


def _escaped(column: pa.StringArray, _: Company) -> pa.StringArray:
    return quoted(changed(column, pc.fill_null(pc.match_substring(column, "\\"), False), each(unescaped)))


ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
MEANT = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def unescaped(text: str) -> str:
    """What a web server wrote with escapes. Where that is no UTF-8 it stays as it was written: nothing is lost."""

    def meant(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if match[1] else MEANT.get(match[2], match[2])

    try:
        return ESCAPE.sub(meant, text.encode()).decode()
    except UnicodeDecodeError:
        return text


def _timestamps(column: pa.StringArray, company: Company) -> pa.StringArray:
    """Each time is looked at once for each day on which it arrived."""
    days = pc.divide(company.arrival_ms, DAY_MS).cast(pa.string())

    def one(key: str) -> str | None:
        day, _, text = key.partition(" ")
        return iso(text, int(day), company.zone)

    times = each(one)(pc.binary_join_element_wise(days, column, " "))
    return pc.binary_join_element_wise('"', times, '"', "")


def _priorities(words: tuple[str, ...]) -> Callable[[pa.StringArray, Company], pa.StringArray]:
    """Looks a priority up among the words for all of them."""
    known = quoted(pa.array(words))
    return lambda column, _: known.take(pc.index_in(column, PRIORITIES))


PARAMETER = re.compile(r' +([^\s=\]"]+)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
ESCAPED_PARAMETER = re.compile(r'\\(["\\\]])')
ELEMENT = re.compile(r'\[([^\s=\]"]+)((?: +[^\s=\]"]+="[^"\\]*+(?:\\.[^"\\]*+)*+")*+)\]', re.DOTALL)


def structured(text: str) -> str:
    r"""RFC 5424's structured data: an object for each element, in which a name that is there twice has a list. Only
    `\"`, `\\` and `\]` are escapes; before anything else a backslash is itself.
    """
    said: dict[str, dict[str, str | list[str]]] = {}
    for name, parameters in ELEMENT.findall(text):
        element = said.setdefault(name, {})
        for parameter, value in PARAMETER.findall(parameters):
            _put(element, parameter, ESCAPED_PARAMETER.sub(r"\1", value) if "\\" in value else value)
    return msgspec.json.encode(said).decode()


def _put(element: dict[str, str | list[str]], name: str, value: str) -> None:
    """Adds a parameter. A list grows in place: a name that is there a million times costs its length, no more."""
    earlier = element.get(name)
    if isinstance(earlier, list):
        earlier.append(value)
    else:
        element[name] = value if earlier is None else [earlier, value]


CONVERT: Mapping[Kind, Callable[[pa.StringArray, Company], pa.StringArray]] = {
    "text": lambda column, _: quoted(column),
    "escaped": _escaped,
    "message": lambda column, _: quoted(column),
    "int": lambda column, _: integers(column),
    "float": lambda column, _: numbers(column),
    "timestamp": _timestamps,
    "facility": _priorities(tuple(facility for facility in FACILITIES for _ in SEVERITIES)),
    "severity": _priorities(SEVERITIES * len(FACILITIES)),
    "structured": lambda column, _: each(structured)(column),
}
