"""Undoes the gzip that CloudWatch Logs wraps its subscription data in, and may take the messages out of it.

Source: firehose.md sections 8.6 ("Decompression details") and 17. What comes out is JSON: of a record that holds
anything else nothing is passed on. With `message_extraction` a record of data becomes its messages, a line each and
still one record; a control message, by which CloudWatch Logs sees whether anybody listens, becomes an empty one.

One record inflates to no more than `limit_mib`, and those of one slice, which are small as they came, together to no
more than `SLICE_BYTES`: a hundred bombs side by side must not fill the memory either.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec
import pyarrow as pa
from pydantic import Field

from firehose.blocks import MIB
from firehose.inflating import GZIP_ERRORS, GZIP_MAGIC, TooLarge, gunzip
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import parted, replaced
from firehose.stream_config import DECOMPRESSING, TransformBlock

T = TypeVar("T")
ERROR_TYPE = "decompression-failed"
CODE = "Decompression failed."  # with its full stop: as captured
SLICE_BYTES = 256 * MIB


class DecompressOptions(TransformBlock):
    """`type: decompress`."""

    STAGE: ClassVar[int] = DECOMPRESSING

    type: Literal["decompress"] = "decompress"
    compression_format: Literal["gzip"] = "gzip"
    message_extraction: bool = False
    limit_mib: Annotated[float, Field(gt=0, le=SLICE_BYTES / MIB)] = 64


class LogEvent(msgspec.Struct, gc=False):
    """The one member of a log event that is delivered."""

    message: str


class Envelope(msgspec.Struct, rename="camel"):
    """What CloudWatch Logs sends, as far as it matters here."""

    message_type: str
    log_events: list[LogEvent] | None = None


class Undecompressed(Exception):
    """Why a record cannot be made what it should become."""


class Decompress:
    """Decompresses record by record: each is a stream of its own."""

    Options: ClassVar[type[TransformBlock]] = DecompressOptions
    repeatable = True

    def __init__(self, options: DecompressOptions, site: Site) -> None:
        self._limit_bytes = int(options.limit_mib * MIB)
        self._read = _messages if options.message_extraction else _json

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        made: list[bytes] = []
        flaws: dict[int, str] = {}
        room = SLICE_BYTES
        for index, record in enumerate(rows.column("record").to_pylist()):
            try:
                made.append(self._read(self._inflated(record, room)))
                room -= len(made[-1])
            except Undecompressed as flaw:
                flaws[index] = str(flaw)
        good, refused = parted(rows, flaws, ERROR_TYPE, CODE)
        return Outcome(replaced(good, pa.array(made, pa.binary())), refused)

    def _inflated(self, record: bytes, room: int) -> bytes:
        if not record.startswith(GZIP_MAGIC):
            raise Undecompressed("the record is not gzip" if record else "the record is empty, and so not gzip")
        try:
            inflated = gunzip(record, min(self._limit_bytes, room))
        except TooLarge:
            raise Undecompressed(self._too_large(room)) from None
        except GZIP_ERRORS as problem:
            raise Undecompressed(f"the gzip stream is damaged or followed by other bytes: {problem}") from None
        if inflated.startswith(GZIP_MAGIC):
            raise Undecompressed("the record is gzip inside gzip: compress it once")
        return inflated

    def _too_large(self, room: int) -> str:
        if room < self._limit_bytes:
            return f"the record and those before it make more than {SLICE_BYTES // MIB} MiB: replay it by itself"
        return (
            f"the record makes more than {self._limit_bytes / MIB:g} MiB: raise limit_mib, or send less in one record"
        )


_ANY_JSON = msgspec.json.Decoder(msgspec.Raw)
_ENVELOPE = msgspec.json.Decoder(Envelope)


def _json(inflated: bytes) -> bytes:
    """The same bytes, once they are known to be JSON."""
    _parsed(_ANY_JSON, inflated)
    return inflated


def _messages(inflated: bytes) -> bytes:
    """The messages of the envelope, each followed by a newline; of a control message nothing."""
    envelope = _parsed(_ENVELOPE, inflated)
    if envelope.message_type == "CONTROL_MESSAGE":
        return b""
    if envelope.message_type != "DATA_MESSAGE":
        raise Undecompressed(f"its messageType {envelope.message_type[:40]!r} is not DATA_MESSAGE or CONTROL_MESSAGE")
    if envelope.log_events is None:
        raise Undecompressed("the DATA_MESSAGE has no logEvents")
    return "".join([f"{event.message}\n" for event in envelope.log_events]).encode()


def _parsed(decoder: msgspec.json.Decoder[T], inflated: bytes) -> T:
    try:
        if not inflated.isascii():
            inflated.decode()  # the parser passes over strings that it does not hand out
        return decoder.decode(inflated)
    except msgspec.ValidationError as problem:
        raise Undecompressed(f"what the record holds is no CloudWatch Logs data: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Undecompressed(f"what the record holds is not JSON: {problem}") from None
    except RecursionError:
        raise Undecompressed("what the record holds is nested too deeply") from None
