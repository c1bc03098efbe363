"""The three shapes in which the user's Python is called: as an AWS Lambda, record by record, as an Arrow table.

Runs in a worker. A shape turns the user's function into a `Run`; which one it is the function's signature says, unless
the `style` does:

    handler(event, context)           lambda: firehose.md sections 8.2 to 8.4
    clean(record: bytes)              record: bytes, or None to drop it
    clean(table: pa.Table)            batch: columns `record` and `row`, back with the rows to be delivered
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.hooks import lambda_style, wire
from firehose.hooks.program import (
    FUNCTION_ERROR,
    NOT_FOUND,
    PAYLOAD_BYTES,
    PROCESSING_FAILED,
    Failed,
    Mark,
    Run,
    print_traceback,
    said,
)
from firehose.model import NO_ROWS, Outcome, Rejections
from firehose.rows import replaced, spread
from firehose.runtime import Runtime, countdown

Function = Callable[..., Any]
TABLES = (pa.Table, pa.RecordBatch)
ENDING = (MemoryError, KeyboardInterrupt)  # after these a process is not what it was


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a hook beside its function. Times in seconds, sizes in MiB."""

    handler: str
    stream_arn: str
    region: str
    attempts: int
    timeout_seconds: float
    memory_mib: int
    style: str | None = None
    path: str | None = None


def python(options: Mapping[str, Any]) -> Run:
    """The program of a Python hook: `options` are the members of `Call`."""
    call = Call(**options)
    if call.path is not None:
        sys.path.insert(0, os.path.abspath(call.path))  # the user's code may go to another directory
    sys.dont_write_bytecode = True  # Python takes a file that was changed within a second for the same
    function = load(call.handler)
    if inspect.iscoroutinefunction(function):
        raise Failed(FUNCTION_ERROR, f"{call.handler} is a coroutine function; make it a plain one", final=True)
    return STYLES[call.style or style_of(function, call.handler)](function, call)


def load(handler: str) -> Callable[..., Any]:
    """The user's function of that name, "module:function". Raises `Failed` where there is none."""
    module, _, name = handler.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, but something that it imports is not
        raise Failed(NOT_FOUND, f"there is no module {error.name}; is its folder the path?", final=True) from error
    function = getattr(found, name, None)
    if not callable(function):
        raise Failed(NOT_FOUND, f"the module {module} has no function {name}", final=True)
    return function  # type: ignore[no-any-return]


def style_of(function: Function, handler: str) -> str:
    """The shape that the function's signature asks for. Raises `Failed` where it fits none."""
    wanted = list(_positional(function))
    if len(wanted) == 2:
        return "lambda"
    if len(wanted) == 1:
        return "batch" if _hint(function, wanted[0]) in TABLES else "record"
    shapes = "(event, context), (record: bytes) or (table: pa.Table)"
    raise Failed(FUNCTION_ERROR, f"{handler} takes {len(wanted)} arguments; give it {shapes}, or a style", final=True)


def _positional(function: Function) -> Iterator[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in one, which does not tell
        parameters = ()  # type: ignore[assignment]
    for one in parameters:
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.default is one.empty:
            yield one.name


def _hint(function: Function, parameter: str) -> object:
    try:
        return get_type_hints(function).get(parameter)
    except Exception:  # a name that only a type checker knows
        return None


def as_lambda(function: Function, call: Call) -> Run:
    dice = Runtime()

    def run(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        request_id = dice.request_id()
        event = lambda_style.event(rows, invocation_id=request_id, stream_arn=call.stream_arn, region=call.region)
        answer = function(event, Context(call, request_id, countdown(call.timeout_seconds)))
        if (size := _json_bytes(answer)) > PAYLOAD_BYTES:
            raise Failed(FUNCTION_ERROR, f"it answered {size} bytes of JSON; AWS allows {PAYLOAD_BYTES}")
        return lambda_style.answered(rows, answer, call.handler)

    return run


def _json_bytes(answer: object) -> int:
    """How large the answer would be on its way to AWS; 0 where it is not JSON, which is told elsewhere."""
    try:
        return len(msgspec.json.encode(answer))
    except Exception:
        return 0


class Context:
    """What AWS hands a Python function as its second argument."""

    function_version = "$LATEST"
    identity = None
    client_context = None

    def __init__(self, call: Call, request_id: str, left_seconds: Callable[[], float]) -> None:
        self._left_seconds = left_seconds
        self.aws_request_id = request_id
        self.function_name = call.handler
        self.memory_limit_in_mb = str(call.memory_mib)
        self.invoked_function_arn = _function_arn(call)
        self.log_group_name = f"/aws/lambda/{call.handler}"
        self.log_stream_name = request_id

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int(self._left_seconds() * 1000))

    def log(self, message: object) -> None:
        print(message)


def _function_arn(call: Call) -> str:
    """In the stream's region and account, though AWS knows nothing of it."""
    region, account_id = call.stream_arn.split(":")[3:5]
    return f"arn:aws:lambda:{region}:{account_id}:function:{call.handler}"


def as_record(function: Function, call: Call) -> Run:
    def run(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        """Record by record."""
        made: list[bytes | None] = []
        refused: dict[int, str] = {}
        for index, record in enumerate(rows.column("record").to_pylist()):
            mark(index)
            try:
                made.append(_one(function, record, call.attempts))
            except ENDING:
                raise
            except BaseException as error:
                if not refused:
                    print_traceback(error)  # one of them tells what is wrong; a thousand would cost more than the work
                made.append(None)
                refused[index] = said(error)
        mark(wire.NOWHERE)
        return _ended(rows, made, refused, call)

    return run


def _one(function: Function, record: bytes, attempts: int) -> bytes | None:
    while True:
        attempts -= 1
        try:
            made = function(record)
            if made is None or isinstance(made, bytes):
                return made
            raise TypeError(f"it returned {type(made).__name__}; return bytes, or None to drop the record")
        except ENDING:
            raise
        except BaseException:
            if attempts <= 0:
                raise


def _ended(rows: pa.RecordBatch, made: list[bytes | None], refused: Mapping[int, str], call: Call) -> Outcome:
    records = pa.array(made, pa.binary())
    if not records.null_count:
        return Outcome(replaced(rows, records))
    empty = records.is_null()
    bad = pa.array(sorted(refused), pa.int32())
    dropped = pc.and_(empty, pc.invert(_mask(bad, rows.num_rows)))
    left = rows.filter(pc.invert(empty))
    return Outcome(
        replaced(left, records.drop_null()),
        _rejected(rows.take(bad), [refused[index] for index in bad.to_pylist()], call),
        rows.column("row").filter(dropped),
    )


def _mask(indexes: pa.Int32Array, count: int) -> pa.BooleanArray:
    mask = np.zeros(count, bool)
    mask[indexes.to_numpy()] = True
    return pa.array(mask)


def _rejected(rows: pa.RecordBatch, messages: list[str], call: Call) -> Rejections:
    if not rows.num_rows:
        return Rejections()
    table = Rejections.of(rows, PROCESSING_FAILED, FUNCTION_ERROR, "", call.attempts, call.handler).table
    at = table.schema.get_field_index("message")
    return Rejections(table.set_column(at, table.schema.field(at), pa.array(messages, pa.string())))


def as_batch(function: Function, call: Call) -> Run:
    def run(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        given = pa.Table.from_batches([rows]).drop_columns(["row", "part"]).add_column(1, "row", _numbers(rows))
        answer = function(given)
        try:
            return _of_table(rows, answer)
        except (ValueError, KeyError, pa.ArrowException) as error:
            why = (PROCESSING_FAILED, FUNCTION_ERROR, f"its table cannot be used: {error}", 1, call.handler)
            return Outcome(rows.slice(0, 0), Rejections.of(rows, *why))

    return run


def _numbers(rows: pa.RecordBatch) -> pa.Int32Array:
    return pa.array(np.arange(rows.num_rows, dtype=np.int32))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """Arrow copies even a single chunk when it is told to combine them."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _of_table(rows: pa.RecordBatch, answer: object) -> Outcome:
    """The rows of the user's table, in the order of the records that they came from. Raises ValueError."""
    if isinstance(answer, pa.RecordBatch):
        answer = pa.Table.from_batches([answer])
    if not isinstance(answer, pa.Table):
        raise ValueError(f"it is a {type(answer).__name__}; return a pyarrow.Table")
    if missing := [name for name in ("record", "row") if name not in answer.column_names]:
        raise ValueError(f"it lacks the column {' and '.join(missing)}; keep both")
    came = _one_array(answer.column("row")).cast(pa.int32())
    records = _one_array(answer.column("record")).cast(pa.binary())
    if came.null_count or records.null_count:
        raise ValueError("record and row may not be null; leave a row out to drop it")
    if came.equals(_numbers(rows)):
        return Outcome(replaced(rows, records))
    numbers = came.to_numpy()
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < rows.num_rows):
        raise ValueError(f"it has rows that were not given; row is between 0 and {rows.num_rows - 1}")
    if (np.diff(numbers) < 0).any():
        order = pa.array(np.argsort(numbers, kind="stable"))
        came, records = came.take(order), records.take(order)
    dropped = np.ones(rows.num_rows, bool)
    dropped[numbers] = False
    gone = rows.column("row").filter(pa.array(dropped)) if dropped.any() else NO_ROWS
    return Outcome(spread(rows, came, records), Rejections(), gone)


STYLES: Mapping[str, Callable[[Function, Call], Run]] = {"lambda": as_lambda, "record": as_record, "batch": as_batch}
