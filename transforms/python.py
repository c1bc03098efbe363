"""The user's own Python, in worker processes: an unmodified AWS Lambda, a function of a record, or of an Arrow table.

What it is called with and what its failures mean: firehose.md sections 8.2 to 8.4 and `firehose.hooks`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from firehose.hooks.calls import Call
from firehose.hooks.options import WorkerOptions
from firehose.hooks.program import Program
from firehose.hooks.workers import Workers
from firehose.registry import Site

HANDLER = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[:.][A-Za-z_]\w*"


class PythonOptions(WorkerOptions):
    """`type: python`."""

    type: Literal["python"] = "python"
    handler: str
    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")] | None = None
    style: Literal["lambda", "record", "batch"] | None = None

    @field_validator("handler")
    @classmethod
    def _with_a_colon(cls, handler: str) -> str:
        """AWS writes "module.function"."""
        if not re.fullmatch(HANDLER, handler):
            raise ValueError('must be "module:function", such as "hooks.orders:clean"')
        return handler if ":" in handler else ":".join(handler.rsplit(".", 1))

    def calls(self) -> str:
        return self.handler if self.path is None else f"{self.handler} in {self.path}"


class Python(Workers):
    """A hook that calls the user's function."""

    Options: ClassVar[type[WorkerOptions]] = PythonOptions

    def __init__(self, options: PythonOptions, site: Site) -> None:
        call = Call(
            options.handler,
            site.stream_arn,
            site.region,
            options.attempts,
            options.timeout_seconds,
            options.memory_mib,
            options.style,
            options.path,
        )
        super().__init__(Program(options.handler, "firehose.hooks.calls:python", asdict(call)), options, site)
