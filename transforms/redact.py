"""What must not be delivered is dropped, hashed or masked: named fields, and whatever a pattern finds.

It fails closed: a record that it cannot read to the end is refused, never let through. What is not redacted stays as it
was written, down to the last digit of a number. Of names that are in one object twice, the last counts, and where a
path goes through such a name only the last is kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
import pyarrow as pa
from pydantic import Field, SecretStr, field_validator, model_validator

from firehose import patterns
from firehose.blocks import Block
from firehose.json_text import paths as json_paths
from firehose.json_text.columns import texts
from firehose.json_text.paths import Tree
from firehose.json_text.tokens import PatternMask
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import refused_each, replaced
from firehose.stream_config import TransformBlock

Action = Literal["drop", "hash", "mask"]
Change = Callable[[bytes], str]  # what is to be read in the place of a value, which is given as it is written
DEEPEST = 32  # lists in lists that are gone through: each level reads them once more


class MaskOptions(Block):
    """How much of a masked value is still shown."""

    keep_last: Annotated[int, Field(ge=0, le=64)] = 4
    sign: Annotated[str, Field(alias="with", min_length=1, max_length=1)] = "*"


class RedactOptions(TransformBlock):
    """`type: redact`."""

    type: Literal["redact"] = "redact"
    fields: dict[str, Action] = {}
    patterns: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(max_length=100)] = ()
    salt: Annotated[SecretStr, Field(min_length=1)] | None = None
    mask: MaskOptions = MaskOptions()

    @field_validator("fields")
    @classmethod
    def _fields(cls, fields: dict[str, Action]) -> dict[str, Action]:
        json_paths.tree(fields)
        return fields

    @field_validator("patterns")
    @classmethod
    def _patterns(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in given:
            patterns.check(pattern)
            if patterns.matches(pattern, ""):
                raise ValueError(f"'{pattern[:40]}' matches no text at all, and so everywhere; let it match something")
        return given

    @model_validator(mode="after")
    def _complete(self) -> RedactOptions:
        if not self.fields and not self.patterns:
            raise ValueError("redacts nothing; give it fields, such as fields: {user.email: hash}, or patterns")
        if "hash" in self.fields.values() and self.salt is None:
            raise ValueError("hash needs a salt, without which hashes can be guessed; give one, such as ${REDACT_SALT}")
        return self


class Redact:
    """Reads an object only as deep as its paths go: what lies beside them is looked at, but never made."""

    Options: ClassVar[type[TransformBlock]] = RedactOptions
    repeatable = True

    def __init__(self, options: RedactOptions, site: Site | None = None) -> None:
        self._paths = json_paths.tree(options.fields)
        salt = options.salt.get_secret_value() if options.salt else ""
        self._changes: Mapping[Action, Change] = {"hash": _hashing(salt), "mask": _masking(options.mask)}
        self._mask = PatternMask(options.patterns, options.mask.sign * 4)

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        reasons: list[tuple[str, str] | None] = []
        made: list[str] = []
        for text in texts(rows.column("record"), "refuse").to_pylist():
            try:
                made.append(self._record(text))
                reasons.append(None)
            except (ValueError, RecursionError) as error:
                reasons.append(("Redact.NotRead", NOT_READ.format(error)))
        records = pa.array(self._mask(made), pa.binary())
        if len(made) == len(reasons):
            return Outcome(replaced(rows, records))
        good = pa.array([reason is None for reason in reasons])
        bad = pa.array([reason is not None for reason in reasons])
        why = [reason for reason in reasons if reason]
        return Outcome(replaced(rows.filter(good), records), refused_each(rows.filter(bad), "processing-failed", why))

    def _record(self, text: str | None) -> str:
        """The record without what must not be delivered, and with the white space that it ends in."""
        if text is None:
            raise ValueError("it is not UTF-8")
        given = OBJECT.decode(text)
        made = self._object(given, self._paths, 0)
        return text if made is None else made.decode() + text[len(text.rstrip(" \t\r\n")) :]

    def _object(self, members: dict[str, msgspec.Raw], paths: Tree[Action], depth: int) -> bytes | None:
        """The object; None where no path goes on in it."""
        touched = False
        for name, below in paths.below.items():
            if name in members:
                touched = True  # even if nothing changes below: an earlier value of the name, not read, may hide there
                value = self._value(bytes(members[name]), below, depth)
                if value is None:
                    del members[name]
                else:
                    members[name] = msgspec.Raw(value)
        return ENCODE(members) if touched else None

    def _value(self, value: bytes, paths: Tree[Action], depth: int) -> bytes | None:
        """The value; None where it is dropped."""
        if paths.leaf == "drop":
            return None
        if value.startswith(b"["):
            if depth == DEEPEST:
                raise ValueError(f"lists are nested more than {DEEPEST} deep")
            kept = (self._value(bytes(item), paths, depth + 1) for item in LIST.decode(value))
            return b"[" + b",".join(item for item in kept if item is not None) + b"]"
        if paths.leaf is not None:
            return value if value == b"null" else ENCODE(self._changes[paths.leaf](value))
        if value.startswith(b"{"):
            return self._object(OBJECT.decode(value), paths, depth) or value
        return value


NOT_READ = (
    "The record cannot be read as one JSON object: {}. What cannot be read is not let through; with validate: true the "
    "stream finds such records when they come in"
)
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
ENCODE = msgspec.json.encode


def _text(value: bytes) -> str:
    """What a string says; anything else as it is written."""
    return msgspec.json.decode(value, type=str) if value.startswith(b'"') else value.decode()


def _hashing(salt: str) -> Change:
    """HMAC-SHA-256, so that equal values stay equal: the text "1" and the number 1 too."""
    key = salt.encode()
    return lambda value: hmac.digest(key, _text(value).encode(), "sha256").hex()


def _masking(options: MaskOptions) -> Change:
    """Shows the end of a value, where that is less than half of it; of an object nothing, not even its length."""
    keep, sign = options.keep_last, options.sign

    def masked(value: bytes) -> str:
        if value.startswith(b"{"):
            return sign * 4
        text = _text(value)
        hidden = len(text) - keep if len(text) > 2 * keep else len(text)
        return sign * hidden + text[hidden:]

    return masked
