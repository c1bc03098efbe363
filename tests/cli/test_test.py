"""`firehose test`: real transforms on the records of a file, their failures shown, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.running import failing, firehose, good
from hooking import overdue

HOOK = """\
import os, sys, time
import pyarrow as pa

calls = 0

def clean(record: bytes) -> bytes | None:
    print("given", record)
    if record.startswith(b"drop"):
        return None
    if record.startswith(b"bad"):
        raise ValueError("is bad")
    return record.upper()

def count(record: bytes) -> bytes:
    global calls
    calls += 1
    return b"%d" % calls

def hang(record: bytes) -> bytes:
    while record == b"hang":
        time.sleep(0.1)
    return record

def leave(record: bytes) -> bytes:
    os._exit(3)

def keys(event, context):
    return {"records": [{"recordId": one["recordId"], "result": "Ok", "data": one["data"], "metadata": {"partitionKeys":
        {"shard": one.get("kinesisRecordMetadata", {}).get("shardId", "none"), "at": one["approximateArrivalTimestamp"]}
    }} for one in event["records"]]}

def backwards(table: pa.Table) -> pa.Table:
    return pa.table({"row": table["row"], "record": [record[::-1] for record in table["record"].to_pylist()]})
"""


class Place:
    """A folder with a configuration whose streams have these transforms, and its cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = str(folder / "firehose.yaml")
        (folder / "hooks").mkdir()
        (folder / "hooks/tried.py").write_text(HOOK)

    def hook(self, function: str, **more: Any) -> dict[str, Any]:
        path = str(self.folder / "hooks")
        return {"type": "python", "handler": f"tried:{function}", "path": path, "attempts": 1, **more}

    def streams(self, **transforms: list[dict[str, Any]]) -> None:
        place = {"type": "folder", "path": str(self.folder / "out")}
        streams = {name: {"transforms": chain, "destination": place} for name, chain in transforms.items()}
        service = {"data_dir": str(self.folder / "data")}
        Path(self.config).write_text(yaml.safe_dump({"service": service, "delivery_streams": streams}))

    def cases(self, **cases: list[dict[str, Any]]) -> None:
        (self.folder / "firehose.tests.yaml").write_text(yaml.safe_dump({"delivery_streams": cases}))

    def results(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(firehose("test", "-c", self.config, "--json", *arguments).stdout)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


RIGHT = {
    "name": "all ends",
    "input": ["keep\n", "drop it", "bad one"],
    "output": ["KEEP\n"],
    "dropped": [1],
    "refused": [{"record": 2, "code": "Lambda.FunctionError", "message": "ValueError: is bad"}],
}


def test_cases_that_pass(place: Place) -> None:
    """Cases whose records end as expected pass, by name; nothing but the cases is touched."""
    place.streams(app=[place.hook("clean")])
    place.cases(app=[RIGHT])
    before = sorted(place.folder.iterdir())
    result = firehose("test", "-c", place.config)
    assert (result.exit_code, result.stderr) == (0, "1 case passed\n")
    assert result.stdout.startswith("ok      app: all ends  ")
    assert sorted(place.folder.iterdir()) == before


def test_case_that_fails(place: Place) -> None:
    """What is not as expected is shown record by record, with what the hook printed; the exit status is 1."""
    place.streams(app=[place.hook("clean")])
    place.cases(app=[{"name": "wrong", "input": ["keep\n", "drop it"], "output": ["KEEP", "more"]}])
    result = firehose("test", "-c", place.config)
    assert (result.exit_code, result.stderr) == (1, "1 of 1 cases failed\n")
    first, *lines = result.stdout.splitlines()
    assert first.startswith("FAILED  app: wrong  ")
    assert lines == [
        "  output[0], of record 0",
        "    given     keep⏎",
        "    expected  KEEP",
        "    came out  KEEP⏎",
        "                  ^",
        "  output[1]",
        "    expected  more",
        "    came out  nothing",
        "  dropped",
        "    expected  nothing",
        "    came out  record 1",
        "  its hooks said",
        "    given b'keep\\n'",
        "    given b'drop it'",
    ]


def test_json_is_for_programs(place: Place) -> None:
    """With --json each case is an object that says what differs, and where; nothing else is on standard output."""
    place.streams(app=[place.hook("clean")])
    place.cases(app=[RIGHT, {"name": "wrong", "input": "keep", "output": [{"json": 1}]}])
    right, wrong = place.results()
    assert (right["ok"], right["differences"], right["error"]) == (True, [], "")
    assert (wrong["stream"], wrong["case"], wrong["ok"]) == ("app", "wrong", False)
    assert wrong["differences"] == [{"at": "output[0]", "record": 0, "expected": "1", "came_out": "KEEP"}]
    assert wrong["log"] == ["given b'keep'"]


def test_chain_runs_in_its_order(place: Place) -> None:
    """All transforms of a stream run, each on what the one before it made."""
    place.streams(app=[place.hook("clean"), place.hook("backwards")])
    case = {"name": "both", "input": ["abc", "drop", "xyz"], "output": ["CBA", "ZYX"], "dropped": [1]}
    place.cases(app=[case])
    good("test", "-c", place.config)


def test_lambda_sees_arrival_and_source(place: Place) -> None:
    """A Lambda meets the case's arrival and the record's place in a data stream; its partition keys are compared."""
    place.streams(app=[place.hook("keys")])
    meta = {"shardId": "shard-7", "partitionKey": "k", "sequenceNumber": "1"}
    output = [{"text": "a", "partition_keys": {"shard": "shard-7", "at": 1767268800000}}, {"partition_keys": {}}]
    given = [{"text": "a", "meta": meta}, "b"]
    place.cases(app=[{"name": "keys", "arrival": "2026-01-01T12:00:00Z", "input": given, "output": output}])
    (result,) = place.results()
    assert [(one["at"], one["came_out"]) for one in result["differences"]] == [
        ("output[1].partition_keys", '{"shard":"none","at":"1767268800000"}')
    ]


def test_state_is_kept_between_cases(place: Place) -> None:
    """As in the service, the module of a hook is loaded once for all cases of a stream, and once for each stream."""
    place.streams(one=[place.hook("count")], two=[place.hook("count")])
    first, second = ({"name": str(n), "input": "x", "output": [str(n)]} for n in (1, 2))
    place.cases(one=[first, second], two=[first])
    good("test", "-c", place.config)


def test_hook_that_hangs_ends_by_its_time_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record at which the hook hangs is refused once its bounds are met; the others are delivered."""
    overdue(monkeypatch, b"hang")
    place.streams(app=[place.hook("hang", timeout_seconds=50)])
    refused = [{"record": 1, "code": "Lambda.FunctionTimedOut", "message": "50 seconds"}]
    place.cases(app=[{"name": "hangs", "input": ["a", "hang", "b"], "output": ["a", "b"], "refused": refused}])
    good("test", "-c", place.config, "--timeout-seconds", "200")


def test_case_ends_by_its_own_bound(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that takes longer than the command allows has failed; the next one runs."""
    overdue(monkeypatch, b"hang", seconds=50)
    place.streams(app=[place.hook("hang")])
    after = {"name": "after", "input": "b", "output": ["b"]}
    place.cases(app=[{"name": "hangs", "input": "hang", "output": ["hang"]}, after])
    hangs, runs = place.results("--timeout-seconds", "50")
    assert hangs["error"] == "it took longer than 50 seconds"
    assert runs["ok"]


def test_process_that_ends(place: Place) -> None:
    """A hook that leaves its process is told with its exit status, as a dead letter would."""
    place.streams(app=[place.hook("leave")])
    place.cases(app=[{"name": "leaves", "input": "x", "refused": [{"message": "exit status 3"}]}])
    good("test", "-c", place.config)


def test_hook_that_does_not_load(place: Place) -> None:
    """A function that is not there refuses every record, and the report says why."""
    place.streams(app=[place.hook("cleam")])
    place.cases(app=[{"name": "typo", "input": "x", "output": ["X"]}])
    result = firehose("test", "-c", place.config)
    assert result.exit_code == 1
    assert "Lambda.ResourceNotFound: the module tried has no function cleam" in result.stdout


def test_transform_that_cannot_be_reached(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lambda that nobody can call for want of credentials fails its case with the reason, not its records."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(place.folder))
    place.streams(app=[{"type": "lambda", "function": "f", "endpoint_url": "http://127.0.0.1:1"}])
    place.cases(app=[{"name": "calls", "input": "x", "output": ["x"]}])
    (result,) = place.results()
    assert "NoCredentials" in result["error"]


def test_without_hooks_no_process_is_needed(place: Place) -> None:
    """Shipped transforms are tried too; a case sees all of them or, in a stream without any, its records again."""
    place.streams(app=[{"type": "log_to_json", "format": "custom", "pattern": "(?P<word>[a-z]+)"}], plain=[])
    made = {"name": "json", "input": {"lines": "abc"}, "output": [{"json": {"word": "abc"}}]}
    place.cases(app=[made], plain=[{"name": "same", "input": "x", "output": ["x"]}])
    good("test", "-c", place.config)


def test_only_what_is_asked_for(place: Place) -> None:
    """--stream and --case choose; a name that no case has is a mistake of usage, with the nearest one."""
    place.streams(one=[], two=[])
    same = {"input": "x", "output": ["x"]}
    place.cases(one=[{"name": "first", **same}, {"name": "second", **same}], two=[{"name": "first", **same}])

    def chosen(*arguments: str) -> list[tuple[str, str]]:
        return [(one["stream"], one["case"]) for one in place.results(*arguments)]

    assert chosen("--stream", "two") == [("two", "first")]
    assert chosen("--case", "first") == [("one", "first"), ("two", "first")]
    assert chosen("--stream", "one", "--case", "second") == [("one", "second")]
    assert "did you mean 'second'?" in failing("test", "-c", place.config, "--case", "secnd", status=2)
    assert "did you mean 'two'?" in failing("test", "-c", place.config, "--stream", "tow", status=2)


def test_cases_elsewhere(place: Place) -> None:
    """--cases names another file than the one beside the configuration."""
    place.streams(app=[])
    path = place.folder / "other.yaml"
    path.write_text("delivery_streams: {app: [{name: a, input: x, output: [x]}]}")
    good("test", "-c", place.config, "--cases", str(path))


def test_stream_without_a_case_is_told(place: Place) -> None:
    """A stream that has transforms and no case is a warning, not a failure."""
    place.streams(app=[], bare=[place.hook("clean")])
    place.cases(app=[{"name": "a", "input": "x", "output": ["x"]}])
    result = firehose("test", "-c", place.config)
    assert result.exit_code == 0
    assert "the delivery stream 'bare' has transforms, and no case" in result.stderr


def test_no_cases_at_all(place: Place) -> None:
    """Without a file of cases the command says where it looked; a file that holds none passes for no test."""
    place.streams(app=[])
    assert f"{place.folder}/firehose.tests.yaml does not exist" in failing("test", "-c", place.config, status=2)
    place.cases()
    assert "holds no cases" in " ".join(failing("test", "-c", place.config, status=2).split())


def test_mistakes_in_either_file(place: Place) -> None:
    """What is wrong with the configuration or the cases is told whole, with status 2: no transform has failed."""
    place.streams(app=[{"type": "pyton"}])
    place.cases(app=[{"name": "a", "inptu": "x"}])
    assert "did you mean 'python'?" in failing("test", "-c", place.config, status=2)
    place.streams(app=[])
    assert "did you mean 'input'?" in failing("test", "-c", place.config, status=2)
    assert "-c FILE" in " ".join(failing("test", status=2).split())


def test_many_differences_are_bounded(place: Place) -> None:
    """Of a case that fails all over, the first differences are shown, and how many more there are."""
    place.streams(app=[])
    place.cases(app=[{"name": "many", "input": {"lines": "x\n" * 500}, "output": ["y"] * 500}])
    result = firehose("test", "-c", place.config)
    assert result.stdout.count("expected  y") == 20
    assert "and 480 more differences" in result.stdout


def test_printing_is_bounded(place: Place) -> None:
    """Of what a hook prints in a case, so many lines are kept."""
    place.streams(app=[place.hook("clean")])
    place.cases(app=[{"name": "talks", "input": {"lines": "x\n" * 300}}])
    (result,) = place.results()
    assert len(result["log"]) == 101
    assert result["log"][-1] == "... and more"
