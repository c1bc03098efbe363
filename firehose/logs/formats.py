r"""The shapes of well-known log lines: a regular expression (RE2) with a group for each value, and what the values are.

Web servers write three kinds of quoted field alike: `\"`, `\\` and `\xhh` stand for what would break the line. Syslog's
relatives are read as they are met: without a priority (as in files), without a host, with RFC 3339 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Type = Literal["text", "int", "float", "timestamp"]  # what people may say of a value
Kind = Type | Literal["escaped", "message", "facility", "severity", "structured"]


@dataclass(frozen=True, slots=True)
class Field:
    """A member of the object that a line becomes, and the group of the expression that it is made of."""

    name: str
    kind: Kind
    group: str


@dataclass(frozen=True, slots=True)
class LogFormat:
    """How lines look, and the fields that they become, in order."""

    pattern: str
    fields: tuple[Field, ...]


def custom(pattern: str, names: tuple[str, ...]) -> LogFormat:
    """Lines that a pattern of the user's own finds its named groups in."""
    return LogFormat(pattern, _fields(dict.fromkeys(names, "text")))


def _fields(kinds: Mapping[str, Kind]) -> tuple[Field, ...]:
    return tuple(Field(name, kind, name) for name, kind in kinds.items())


# Web servers

IN_QUOTES = r'[^"\\]*(?:\\.[^"\\]*)*'
# A line of a request has three words, of which the second may hold blanks; anything else is whatever a port scan sent.
REQUEST = (
    r'"(?:(?P<method>[A-Za-z_-]+) (?P<path>' + IN_QUOTES + r") (?P<protocol>HTTP/[0-9.]+)"
    r"|(?P<request>" + IN_QUOTES + r'))"'
)
ANSWERED = r" \[(?P<timestamp>[^\]]+)\] " + REQUEST + r" (?P<status>[0-9]{3}|-) (?P<bytes>[0-9]+|-)"
COMMON = r"^(?P<host>\S+) (?P<ident>\S+) (?P<user>[^\[]+)" + ANSWERED
READER = r' "(?P<referer>' + IN_QUOTES + r')" "(?P<user_agent>' + IN_QUOTES + r')"'
FORWARDED = r'(?: "(?P<forwarded_for>' + IN_QUOTES + r')")?'  # the `main` format of nginx's own packages and images
NGINX = r"^(?P<host>\S+) - (?P<user>[^\[]+)" + ANSWERED + READER + FORWARDED + "$"

_WHO: Mapping[str, Kind] = {"host": "text", "ident": "text", "user": "escaped", "timestamp": "timestamp"}
_WHAT: Mapping[str, Kind] = {
    "method": "text",
    "path": "escaped",
    "protocol": "text",
    "request": "escaped",
    "status": "int",
    "bytes": "int",
}
_READER: Mapping[str, Kind] = {"referer": "escaped", "user_agent": "escaped"}
_NGINX: Mapping[str, Kind] = {name: kind for name, kind in _WHO.items() if name != "ident"}
_FORWARDED: Mapping[str, Kind] = {"forwarded_for": "escaped"}

# Syslog

PRIORITY = r"<(?P<pri>[0-9]{1,3})>"
TIME_3164 = r"(?P<timestamp>[A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8}(?:\.[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+)"
TAG = r"(?P<appname>[^\s:\[]+)(?:\[(?P<procid>[^\s\]]*)\])?: ?"
SYSLOG_3164 = (
    r"(?s)^(?:" + PRIORITY + r")? ?" + TIME_3164 + r" (?:(?P<hostname>\S*[^\s:]) )?(?:" + TAG + r")?(?P<message>.*)$"
)
ELEMENT = r'\[[^\s=\]"]+(?: +[^\s=\]"]+="' + IN_QUOTES + r'")*\]'
SYSLOG_5424 = (
    r"(?s)^" + PRIORITY + r"(?P<version>[1-9][0-9]{0,2}) (?P<timestamp>\S+) (?P<hostname>\S+) (?P<appname>\S+)"
    r" (?P<procid>\S+) (?P<msgid>\S+) (?P<structured_data>-|(?:" + ELEMENT + r")+)(?: \x{FEFF}?(?P<message>.*))?$"
)
_PRIORITY = (Field("facility", "facility", "pri"), Field("severity", "severity", "pri"))
_SENDER: Mapping[str, Kind] = {"timestamp": "timestamp", "hostname": "text", "appname": "text", "procid": "text"}

FORMATS: Mapping[str, LogFormat] = {
    "apache_common": LogFormat(COMMON + "$", _fields({**_WHO, **_WHAT})),
    "apache_combined": LogFormat(COMMON + READER + "$", _fields({**_WHO, **_WHAT, **_READER})),
    "apache": LogFormat(COMMON + "(?:" + READER + ")?$", _fields({**_WHO, **_WHAT, **_READER})),
    "nginx": LogFormat(NGINX, _fields({**_NGINX, **_WHAT, **_READER, **_FORWARDED})),
    "syslog_rfc3164": LogFormat(SYSLOG_3164, (*_PRIORITY, *_fields({**_SENDER, "message": "message"}))),
    "syslog_rfc5424": LogFormat(
        SYSLOG_5424,
        (
            *_PRIORITY,
            *_fields({"version": "int", **_SENDER, "msgid": "text", "structured_data": "structured"}),
            *_fields({"message": "message"}),
        ),
    ),
}
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "security", "console", "solaris-cron"),
    *(f"local{n}" for n in range(8)),
)
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
