"""User code as it comes: hooks of every shape, and what a record may make them do. Workers import this file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from firehose.hooks import calls


class Odd(BaseException):
    """What nobody expects."""


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def odd() -> NoReturn:
    raise Odd("\ud800" + "x" * 5000)


def wordless() -> NoReturn:
    raise Wordless


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def hold_the_interpreter() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def spin() -> None:
    while True:
        pass


def hang() -> None:
    threading.Event().wait()


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    os.abort()


def forget_all_modules() -> None:
    sys.modules.clear()


def close_all() -> None:
    os.closerange(0, 1024)


def close_all_and_hang() -> None:
    close_all()
    hang()


def linger() -> None:
    """Hangs where all is closed."""
    try:
        os.fstat(1)
    except OSError:
        hang()


def spoil_the_end() -> None:
    """The process ends behind the slice's last record."""
    calls._ended = lambda *_: os._exit(1)


def allocate() -> None:
    bytearray(10 * 1000**3)


EVILS: dict[str, Callable[[], object]] = {
    "raise": lambda: 1 / 0,
    "odd": odd,
    "wordless": wordless,
    "interrupt": interrupt,
    "sys.exit": sys.exit,
    "os._exit": lambda: os._exit(0),
    "die": die,
    "crash": crash,
    "allocate": allocate,
    "close_all": close_all,
    "close_all_and_hang": close_all_and_hang,
    "linger": linger,
    "spoil_the_end": spoil_the_end,
    "forget_all_modules": forget_all_modules,
    "spin": spin,
    "hang": hang,
    "deaf": deaf,
    "stop": stop,
    "hold_the_interpreter": hold_the_interpreter,
}


def meet(record: bytes) -> bytes:
    """The record in capitals, unless its word is an evil one."""
    EVILS.get(record.decode(), bool)()
    return record.upper()


def evil_record(record: bytes) -> bytes:
    return meet(record)


def evil_lambda(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Changes its event in place, as many functions do."""
    for record in event["records"]:
        record["data"] = b64encode(meet(b64decode(record["data"]))).decode()
        record["result"] = "Ok"
    return {"records": event.pop("records")}


def evil_batch(table: pa.Table) -> pa.Table:
    made = [meet(record) for record in table.column("record").to_pylist()]
    return table.set_column(0, "record", pa.array(made, pa.binary()))


def same_record(record: bytes) -> bytes:
    return record


def same_lambda(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"records": [{**record, "result": "Ok"} for record in event["records"]]}


def same_batch(table: pa.Table) -> pa.Table:
    return table


def compress_record(record: bytes) -> bytes:
    """Work: some 20 us of it."""
    return zlib.compress(record)


# What a good process does beside its work


def fork_and_return(record: bytes) -> bytes:
    """The copy comes out of the handler too, and goes on with the records that follow."""
    pid = os.fork()
    return b"%d" % pid if pid else b"copy"


def fork_and_crash(record: bytes) -> bytes:
    """While its copy is at a later record, and ends there, the process itself crashes at this one."""
    if record == b"bad":
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            os._exit(3)
        EVILS["later"] = lambda: os._exit(0)
    EVILS.get(record.decode(), bool)()
    return record


def leave(*, behind: bool) -> bytes:
    """A process that outlives the call; `behind` its own session it is out of reach."""
    pid = os.fork()
    if not pid:
        if behind:
            os.setsid()
        signal.pause()
    while behind and os.getsid(pid) != pid:  # it is in reach until then
        os.sched_yield()
    return b"%d" % pid


def leave_a_child(record: bytes) -> bytes:
    return leave(behind=False)


def leave_a_daemon(record: bytes) -> bytes:
    return leave(behind=True)


def run_a_program(record: bytes) -> bytes:
    return subprocess.run(["cat"], input=record, stdout=subprocess.PIPE, check=True).stdout


def read_standard_input(record: bytes) -> bytes:
    return record + sys.stdin.buffer.read()


def start_a_thread(record: bytes) -> bytes:
    threading.Thread(target=hang).start()
    return record


def change_folder(record: bytes) -> bytes:
    os.chdir("/")
    from relative import late  # type: ignore[import-not-found]

    return bytes(late.suffixed(record))


def sum_up(record: bytes, *, seen: list[bytes] = []) -> bytes:  # noqa: B006  (the state that it keeps)
    seen.append(record)
    return b"%d" % len(seen)


def who(record: bytes) -> bytes:
    return b"%d" % os.getpid()


def environment(record: bytes) -> bytes:
    return " ".join(sorted(os.environ)).encode()


def fresh(record: bytes) -> bytes:
    """Good for one call: its process ends once the file that the record names is gone, with nobody at work on it."""
    threading.Thread(target=end_without, args=(record.decode(),), daemon=True).start()
    return record


def end_without(sign: str) -> NoReturn:
    while os.path.exists(sign):
        time.sleep(0.005)
    os._exit(7)


def echo(record: bytes) -> bytes:
    return record


def meet_each_other(record: bytes) -> bytes:
    """Returns when two processes are here at once: the record names the folder that they meet in."""
    folder = record.decode()
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < 2:
        os.sched_yield()
    return b"met"


def wait_for_the_sign(record: bytes) -> bytes:
    """Writes the file that it is named for, then waits until that has gone."""
    path = record.decode()
    open(path, "w").close()
    while os.path.exists(path):
        os.sched_yield()
    return b"seen"


def count_calls(record: bytes) -> bytes:
    """A line of the file that it is named for, for each call."""
    path, _, evil = record.decode().partition(" ")
    with open(path, "a") as calls:
        calls.write("called\n")
    EVILS.get(evil, bool)()
    return b"counted"


def count_slices(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """As above; how many records each call had."""
    for record in event["records"]:
        path, _, evil = b64decode(record["data"]).decode().partition(" ")
        with open(path, "a") as calls:
            calls.write(f"{len(event['records'])} ")
        if evil:
            EVILS[evil]()
        record["result"] = "Ok"
    return event


# Prints


def say(record: bytes) -> bytes:
    print(record.decode())
    return record


def say_and_die(record: bytes) -> bytes:
    print("last words")
    os._exit(1)


def print_a_gigabyte(record: bytes) -> bytes:
    for _ in range(1000):
        sys.stdout.write("x" * 1_000_000 + "\n")
    return record


def print_empty_lines(record: bytes) -> bytes:
    sys.stdout.write("y\n" * 30_000)
    return record


def print_bytes_and_close(record: bytes) -> bytes:
    if not sys.stdout.closed:
        sys.stdout.buffer.write(record)
        sys.stdout.close()
        sys.stderr.close()
        os.closerange(0, 3)
    return record


def write_everywhere(record: bytes) -> bytes:
    """The record to each descriptor that there is."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, record)
        except OSError:
            pass
    return record


# What they return


def returned(what: object) -> Callable[[object], object]:
    return lambda record: what


return_text, return_number, return_view = returned("text"), returned(5), returned(memoryview(b"x"))


def ten_mebibytes(event: dict[str, Any], context: Any) -> Any:
    """Each record ten thousand times as long."""
    for record in event["records"]:
        record["data"] = b64encode(b64decode(record["data"]) * 10_000).decode()
        record["result"] = "Ok"
    return event


def much_more(record: bytes) -> bytes:
    return record * 40_000_000


def answer_strangely(event: dict[str, Any], context: Any) -> Any:
    """What the first record says."""
    records = [{**record, "result": "Ok"} for record in event["records"]]
    first = b64decode(records[0]["data"]).decode()
    return {
        "nothing": None,
        "text": "records",
        "no records": {},
        "set": {"records": {1, 2}},
        "twice": {"records": [*records, records[-1]]},
        "missing": {"records": records[:-1]},
        "foreign": {"records": [*records[:-1], {**records[-1], "recordId": "of another"}]},
        "no base64": {"records": [{**record, "data": "*"} for record in records]},
        "failed": {"records": [*records[:-1], {**records[-1], "result": "ProcessingFailed"}]},
        "dropped": {"records": [*records[:-1], {"recordId": records[-1]["recordId"], "result": "Dropped"}]},
        "endless": {"records": iter(int, 1)},
    }[first]


def context_of(event: dict[str, Any], context: Any) -> Any:
    """What the context says of itself, in the first record."""
    context.log("from the context")
    said = (
        context.function_name,
        context.memory_limit_in_mb,
        context.invoked_function_arn,
        context.aws_request_id == event["invocationId"],
        0 < context.get_remaining_time_in_millis() <= 60_000,
    )
    data = b64encode(repr(said).encode()).decode()
    return {"records": [{"recordId": record["recordId"], "result": "Ok", "data": data} for record in event["records"]]}


def table_of(what: str, table: pa.Table) -> object:
    return {
        "nothing": None,
        "list": [1],
        "no row": table.drop_columns(["row"]),
        "two rows": table.append_column("row", table.column("row")),
        "numbers": table.set_column(0, "record", pa.array(range(len(table)))),
        "text": table.set_column(0, "record", pa.array(["x"] * len(table))),
        "null": table.set_column(0, "record", pa.nulls(len(table), pa.binary())),
        "other rows": table.set_column(1, "row", pc.add(table.column("row"), 1)),
        "huge row": table.set_column(1, "row", pc.add(table.column("row").cast(pa.int64()), 2**40)),
        "empty": table.slice(0, 0),
        "backwards": table.take(pa.array(range(len(table) - 1, -1, -1))),
        "doubled": pa.concat_tables([table, table]),
        "batch": table.to_batches()[0],
    }[what]


def answer_with_a_table(table: pa.Table) -> object:
    """What the first record says."""
    return table_of(table.column("record")[0].as_py().decode(), table)


def change_buffers(table: pa.Table) -> pa.Table:
    """Tries to change what it was given."""
    for buffer in table.column("record").chunk(0).buffers():
        if buffer is not None and buffer.is_mutable:
            memoryview(buffer)[:] = b"\0" * buffer.size
    raise ValueError


def busy_record(record: bytes) -> bytes:
    """Takes its time, and changes nothing."""
    zlib.compress(record)
    return record


def print_and_fail(event: Any, context: Any) -> Any:
    for number in range(500):
        print("line", number)
    raise ValueError("always")
