"""The three shapes of a hook: what its code gets, what it may return, and what is no hook at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from batches import rows
from hooking import fates, fates_of, hooked, messages, told
from pydantic import ValidationError
from structlog.testing import capture_logs

from firehose.hooks import process, wire
from firehose.hooks.calls import Call, as_batch, as_record, python, style_of
from firehose.hooks.program import Failed
from firehose.model import Outcome
from firehose.rows import spread
from transforms.python import PythonOptions

REFUSED, MISSING = "FunctionError", "ResourceNotFound"
ARN = "arn:aws:firehose:eu-west-1:123456789012:deliverystream/app"
CALL = Call("hooks:f", ARN, "eu-west-1", 3, 60.0, 512)


def unmarked(index: int) -> None: ...


# What is a hook


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(record) return", "SyntaxError: expected ':'"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import bro", "ModuleNotFoundError: No module named 'bro'"),
        ("from os import nothing", "ImportError: cannot import name 'nothing'"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", "its process ended: exit status 3"),
        ("", "the module broken has no function f"),
        ("f = 5", "the module broken has no function f"),
        ("def f(): ...", "broken:f takes 0 arguments; give it (event, context), (record: bytes) or (table: pa.Table)"),
        ("def f(a, b, c): ...", "broken:f takes 3 arguments"),
        ("def f(*records): ...", "broken:f takes 0 arguments"),
        ("async def f(record): ...", "broken:f is a coroutine function; make it a plain one"),
    ],
    ids=lambda text: text[:20],
)
async def test_no_hook(tmp_path: Path, code: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be loaded, or takes what no hook gets, refuses its records, and says what to mend."""
    monkeypatch.setattr(process, "PARTING_SECONDS", 60.0)  # who has ended is not taken for one that hung up
    (tmp_path / "broken.py").write_text(code)
    async with hooked("broken:f", path=str(tmp_path)) as hook:
        outcome = await hook.outcome(rows([b"a"]))
    assert fates(outcome, 1)[0] in (REFUSED, MISSING)
    assert messages(outcome)[0].startswith(says)


async def test_where_no_code_is() -> None:
    """A module that is not there is told as such, be it the first of its name or the last."""
    for handler, name in (("nowhere:f", "nowhere"), ("relative.nowhere:f", "relative.nowhere")):
        async with hooked(handler) as hook:
            outcome = await hook.outcome(rows([b"a"]))
            assert fates(outcome, 1) == {0: MISSING}
            assert messages(outcome) == [f"there is no module {name}; is its folder the path?"]


async def test_imports_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages under the path import each other; a path is that of the service's folder; theirs win over ours."""
    async with hooked("relative.orders:clean") as hook:
        assert await fates_of(hook, b"a") == ["a.."]
    package = tmp_path / "hooks" / "transforms"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "access_log.py").write_text(
        "import os\ndef f(record):\n    os.chdir('/')\n    from . import late\n    return late.X\n"
    )
    (package / "late.py").write_text("X = b'late'\n")
    monkeypatch.chdir(tmp_path)
    async with hooked("transforms.access_log:f", path="hooks") as hook:
        assert await fates_of(hook, b"a", b"b") == ["late", "late"]
    assert not list(package.rglob("*.pyc"))


async def test_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path, code is looked for in the service's folder."""
    (tmp_path / "here.py").write_text("def f(record):\n    return record.title()\n")
    monkeypatch.chdir(tmp_path)
    async with hooked("here:f", path=None) as hook:
        assert await fates_of(hook, b"abc") == ["Abc"]


async def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code sees paths, the locale, and what is listed: nothing else of the service's environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("API_KEY", "of the service")
    async with hooked("environment", environment={"API_KEY": "listed"}) as hook:
        (names,) = await fates_of(hook, b"a")
    allowed = {"PATH", "PYTHONPATH", "HOME", "USER", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}
    assert set(names.split()) - allowed == {"API_KEY"}


@pytest.mark.parametrize("handler", ["", "f", "a:", ":f", "a b:f", "../a:f", "a:b:c", "a.b:c.d", "1a:f"])
def test_handlers_that_are_none(handler: str) -> None:
    """A handler is a dotted module and a function."""
    with pytest.raises(ValidationError):
        PythonOptions(handler=handler)


def test_awss_way_to_write_a_handler() -> None:
    """AWS writes a dot where we write a colon."""
    assert PythonOptions(handler="lambda_function.lambda_handler").handler == "lambda_function:lambda_handler"
    assert PythonOptions(handler="a.b.c").handler == "a.b:c"


def test_shapes() -> None:
    """The signature says the shape: two arguments a Lambda, one a record, one that is a table a batch."""

    class Callables:
        def __call__(self, record: bytes) -> bytes:
            return record

    callable_object = Callables()

    def of_defaults(record: bytes, limit: int = 5) -> bytes:
        return record

    def of_a_table(table: pa.Table) -> pa.Table:
        return table

    def of_a_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    def of_an_unknown(record: Unknown) -> bytes:  # type: ignore[name-defined]  # noqa: F821
        return b""

    assert [style_of(f, "h") for f in (of_defaults, of_a_table, of_a_batch, of_an_unknown, callable_object)] == [
        "record",
        "batch",
        "batch",
        "record",
        "record",
    ]
    with pytest.raises(Failed, match="or a style"):
        style_of(bytes.upper, "h")  # a built-in function, which does not tell what it takes
    assert style_of(lambda event, context: None, "h") == "lambda"
    with pytest.raises(Failed, match="takes 0 arguments"):
        style_of(lambda: None, "h")


def test_a_style_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A style that is given is believed over the signature, save for a coroutine, which nothing waits for."""
    options = {field: getattr(CALL, field) for field in Call.__dataclass_fields__}
    run = python({**options, "handler": "base64:b64encode", "style": "record"})
    assert made(run(rows([b"a"]), unmarked)) == [b"YQ=="]
    with pytest.raises(Failed, match="coroutine"):
        python({**options, "handler": "asyncio:open_connection", "style": "record"})


# As a Lambda


async def test_context() -> None:
    """The context has what AWS's has."""
    with capture_logs() as logs:
        async with hooked("context_of") as hook:
            (said,) = await fates_of(hook, b"a")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:handlers:context_of"
    assert said == repr(("handlers:context_of", "512", arn, True, True))
    assert "from the context" in [one.get("line") for one in logs]


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        ("nothing", [REFUSED] * 3),
        ("text", [REFUSED] * 3),
        ("no records", [REFUSED] * 3),
        ("set", [REFUSED] * 3),
        ("twice", ["DuplicatedRecordId"] * 3),
        ("missing", ["missing", "b", "MissingRecordId"]),
        ("foreign", ["foreign", "b", "MissingRecordId"]),
        ("no base64", [REFUSED] * 3),
        ("failed", ["failed", "b", "ProcessingFailedStatus"]),
        ("dropped", ["dropped", "b", "dropped"]),
        ("endless", [REFUSED] * 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_answers_of_a_lambda(answer: str, ends: list[str]) -> None:
    """Answers that break the contract refuse what AWS's rules say, without another call."""
    with capture_logs() as logs:
        async with hooked("answer_strangely", attempts=4) as hook:
            assert await fates_of(hook, answer.encode(), b"b", b"c") == ends
    assert told(logs, "hook.failed") == []


async def test_answers_over_awss_limit() -> None:
    """An answer of more than 6 MB fails as a call: it is tried again, then halved until the pieces fit."""
    with capture_logs() as logs:
        async with hooked("ten_mebibytes", attempts=2) as hook:
            found = await fates_of(hook, b"x" * 300, b"y" * 300, b"z" * 600)
    assert [one[:1] for one in found[:2]] == ["x", "y"]
    assert found[2] == REFUSED
    failed = told(logs, "hook.failed")
    assert [one["attempt"] for one in failed] == [1, 2]
    assert "bytes of JSON; AWS allows 6291456" in failed[0]["reason"]


@pytest.mark.parametrize("style", ["record", "lambda", "batch"])
async def test_records_of_all_sizes(style: str) -> None:
    """Bytes that are no text, none at all, and as many as a record may have come out as they went in."""
    records = [b"\xff\x00\xfe", b"", os.urandom(1_024_000), os.urandom(4 * 1024**2), b"end"]
    async with hooked(f"same_{style}") as hook:
        outcome = await hook.outcome(rows(records))
    assert made(outcome) == records


@pytest.mark.parametrize("style", ["record", "batch"])
async def test_a_record_of_ten_mebibytes(style: str) -> None:
    """Where AWS's limit of a payload is none, the largest record is no exception."""
    records = [b"a", os.urandom(10 * 1024**2), b"b"]
    async with hooked(f"same_{style}") as hook:
        assert made(await hook.outcome(rows(records))) == records


# Record by record


@pytest.mark.parametrize("handler", ["return_text", "return_number", "return_view"])
async def test_wrong_types_of_a_record(handler: str) -> None:
    """A function of a record returns bytes or None; whatever else refuses the record, and says so."""
    async with hooked(handler) as hook:
        outcome = await hook.outcome(rows([b"a", b"b"]))
    assert fates(outcome, 2) == {0: REFUSED, 1: REFUSED}
    assert set(messages(outcome)) <= {
        f"TypeError: it returned {kind}; return bytes, or None to drop the record"
        for kind in ("str", "int", "memoryview")
    }


def test_a_function_of_a_record() -> None:
    """Bytes are delivered, None drops, an exception refuses after so many attempts; each row is marked, and the end."""
    calls: list[bytes] = []
    marks: list[int] = []

    def f(record: bytes) -> bytes | None:
        calls.append(record)
        if record == b"bad":
            raise KeyError("k")
        return None if record == b"drop" else record.upper()

    outcome = as_record(f, CALL)(rows([b"a", b"bad", b"drop", b"", b"b"]), marks.append)
    assert fates(outcome, 5) == {0: "A", 1: REFUSED, 2: "dropped", 3: "", 4: "B"}
    assert calls == [b"a", b"bad", b"bad", b"bad", b"drop", b"", b"b"]
    assert marks == [0, 1, 2, 3, 4, wire.NOWHERE]
    (said,) = outcome.refused.table.to_pylist()
    assert said["attempts"] == 3
    assert said["message"] == "KeyError: 'k'"
    assert said["function"] == "hooks:f"
    assert said["record"] == b"bad"


def test_parts_of_a_record_end_each_in_their_own_way() -> None:
    """Parts that an earlier transform made of one record are records to the hook."""
    given = spread(rows([b"a", b"b"]), [0, 1, 1, 1], pa.array([b"a", b"drop", b"c", b"d"], pa.binary()))
    outcome = as_record(lambda record: None if record == b"drop" else record, CALL)(given, unmarked)
    assert outcome.rows.column("part").to_pylist() == [0, 1, 2]
    assert outcome.dropped.to_pylist() == [1]


async def test_the_worked_example(tmp_path: Path) -> None:
    """The hook that docs/transforms.md shows does what it says there."""
    paper = (Path(__file__).parents[2] / "docs/transforms.md").read_text()
    (tmp_path / "orders.py").write_text(paper.partition("```python\n")[2].partition("```")[0])
    records = [line[4:].encode() for line in paper.splitlines() if line.startswith('    {"price"')]
    async with hooked("orders:clean", path=str(tmp_path), attempts=4) as hook:
        outcome = await hook.outcome(rows(records))
    found = fates(outcome, 4)
    assert [json.loads(found[row])["total"] for row in (0, 3)] == [6, 5]
    assert (found[1], found[2]) == ("dropped", REFUSED)
    (said,) = outcome.refused.table.to_pylist()
    told = [said[name] for name in ("error_type", "code", "message", "attempts", "function", "record")]
    assert told == ["processing-failed", "Lambda.FunctionError", "KeyError: 'count'", 4, "orders:clean", records[2]]


# As a table


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        ("nothing", [REFUSED] * 3),
        ("list", [REFUSED] * 3),
        ("no row", [REFUSED] * 3),
        ("two rows", [REFUSED] * 3),
        ("numbers", [REFUSED] * 3),
        ("null", [REFUSED] * 3),
        ("other rows", [REFUSED] * 3),
        ("huge row", [REFUSED] * 3),
        ("text", ["x"] * 3),
        ("empty", ["dropped"] * 3),
        ("backwards", ["backwards", "b", "c"]),
        ("doubled", ["doubled+doubled", "b+b", "c+c"]),
        ("batch", ["batch", "b", "c"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_answers_with_a_table(answer: str, ends: list[str]) -> None:
    """A table that cannot be used refuses all rows, without another call; one that can be is taken in row order."""
    with capture_logs() as logs:
        async with hooked("answer_with_a_table", style="batch", attempts=4) as hook:
            assert await fates_of(hook, answer.encode(), b"b", b"c") == ends
    assert told(logs, "hook.failed") == []


def test_what_a_table_holds() -> None:
    """A batch hook sees the records, an ordinal of its own for each, and their arrival; not how we number them."""
    seen: list[pa.Table] = []

    def f(table: pa.Table) -> pa.Table:
        seen.append(table)
        return table

    given = rows([b"a", b"b", b"c"]).slice(1)
    outcome = as_batch(f, CALL)(given, unmarked)
    assert seen[0].column_names == ["record", "row", "arrival_ms"]
    assert seen[0].column("row").to_pylist() == [0, 1]
    assert outcome.rows.equals(given)


async def test_input_is_nobodys_to_change() -> None:
    """What is refused is refused as it came, whatever the code does to what it was given."""
    async with hooked("change_buffers") as hook:
        outcome = await hook.outcome(rows([b"as it came"]))
    assert outcome.refused.table.column("record").to_pylist() == [b"as it came"]


def made(outcome: Outcome) -> list[bytes]:
    found: list[bytes] = outcome.rows.column("record").to_pylist()
    return found
