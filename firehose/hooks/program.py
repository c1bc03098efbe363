"""What a worker process runs, said in a way that can be sent to it. Light: every worker imports it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from firehose.model import Outcome

# Says at which of the given rows (its index) the work is now, or that it is at none: whose fault a crash is.
Mark = Callable[[int], None]
Run = Callable[[pa.RecordBatch, Mark], Outcome]

PROCESSING_FAILED = "processing-failed"  # error-output-type: firehose.md section 5.2
FUNCTION_ERROR = "Lambda.FunctionError"  # codes of section 8.4
TIMED_OUT = "Lambda.FunctionTimedOut"
NOT_FOUND = "Lambda.ResourceNotFound"
SAID_CHARACTERS = 1000
PAYLOAD_BYTES = 6 * 1024 * 1024  # AWS's bound of one invocation, each way: firehose.md section 8.2


@dataclass(frozen=True, slots=True)
class Program:
    """`maker`, a dotted "module:function", is called once in the worker with `options` and returns a `Run`.

    `options` are plain JSON values. `name` is what logs, metrics and dead letters call it.
    """

    name: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Failed(Exception):
    """A call of the user's code that came to nothing, though another one may succeed.

    `code` is AWS's errorCode. `at` is the index of the row it was at, where that is known. `final` says that another
    call cannot do better, such as where there is no such code.
    """

    def __init__(self, code: str, message: str, at: int | None = None, *, final: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.at = at
        self.final = final


def said(error: BaseException) -> str:
    """An exception in a few words, whatever it is: text that can be encoded, and is not too long."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # the user's exceptions are the user's code too
        text = type(error).__name__
    return text[:SAID_CHARACTERS].encode("utf-8", "replace").decode().rstrip(": ")


def print_traceback(error: BaseException) -> None:
    """To standard error, which is the log; never in the way of an answer."""
    try:
        traceback.print_exception(error)
    except BaseException:
        pass
