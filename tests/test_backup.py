"""Source-record backup: every record as it came, beside whatever becomes of it (firehose.md section 8.5)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from programs import PATIENCE_SECONDS
from running import NEVER, imbalances, running, to_folder

from firehose import config
from firehose.yaml_file import ConfigError

HOOK = """
def clean(record: bytes):
    if record.startswith(b"bad"):
        raise ValueError("no good")
    return None if record.startswith(b"drop") else record.upper()
"""


def hook(root: Path) -> dict[str, Any]:
    (root / "hooks.py").write_text(HOOK)
    return {"type": "python", "handler": "hooks:clean", "path": str(root)}


def stream(root: Path, **keys: Any) -> dict[str, Any]:
    errors = to_folder(root, "errors")
    return {"buffering": NEVER, "destination": to_folder(root), "errors": errors, "transforms": [hook(root)], **keys}


async def test_backup_gets_every_record_as_it_came(tmp_path: Path) -> None:
    """Delivered, dropped, failed and refused by intake: all are in the backup, byte for byte, and all counts agree."""
    backup = to_folder(tmp_path, "backup", prefix="source/")
    async with running(tmp_path, {"app": stream(tmp_path, backup=backup, max_record_kib=1)}) as one:
        await one.post("app", b"a\ndrop\nbad\nb\n" + b"x" * 2000 + b"\n")
        await one.flush("app")
        assert one.files.records() == ["A", "B"]
        assert one.files.records("backup") == ["a", "drop", "bad", "b", "x" * 2000]
        codes = [json.loads(line)["errorCode"] for line in one.files.records("errors")]
        assert sorted(codes) == ["Ingest.RecordTooLarge", "Lambda.FunctionError"]
        places = (await one.streams())["app"]["destinations"]
        assert {name: (place["delivered"], place["dropped"], place["dead"]) for name, place in places.items()} == {
            "folder": (2, 1, 2),
            "backup": (5, 0, 0),
        }
        assert set(imbalances(await one.metrics()).values()) == {0.0}


async def test_a_blocked_backup_blocks_nobody(tmp_path: Path) -> None:
    """While the backup cannot be written the destination gets its records, and the backup gets them later."""
    (tmp_path / "backup").write_text("a file where a folder should be")
    backup = to_folder(tmp_path, "backup/x")
    async with running(tmp_path, {"app": stream(tmp_path, backup=backup)}) as one:
        await one.post("app", b"a\nb\n")
        await one.client.post("/v1/streams/app/flush")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await one.streams())["app"]["destinations"]["folder"]["delivered"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert one.files.records() == ["A", "B"]
        (tmp_path / "backup").unlink()
        await one.flush("app")
        assert one.files.records("backup") == ["a", "b"]


async def test_a_backup_of_what_failed_is_the_error_output(tmp_path: Path) -> None:
    """With `mode: failed` dead letters go where the backup says, as AWS's FailedDataOnly has it."""
    backup = to_folder(tmp_path, "failed", mode="failed", prefix="f/")
    streams = {"app": {**stream(tmp_path, backup=backup), "errors": None}}
    del streams["app"]["errors"]
    async with running(tmp_path, streams) as one:
        await one.post("app", b"a\nbad\n")
        await one.flush("app")
        assert [json.loads(line)["errorMessage"] for line in one.files.records("failed")] == ["ValueError: no good"]
        assert list((await one.streams())["app"]["destinations"]) == ["folder"]


async def test_backup_comes_and_goes_with_a_reload(tmp_path: Path) -> None:
    """A backup that is added gets what is sealed from then on; one that is taken out is owed nothing more."""
    backup = to_folder(tmp_path, "backup")
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        for streams in ({"backup": backup}, {}):
            await one.post("app", b"x%d\n" % len(streams))
            await one.flush("app")
            await one.reload({"app": stream(tmp_path, **streams)})
        await one.post("app", b"last\n")
        await one.flush("app")
        assert one.files.records("backup") == ["x0"]
        assert len(one.files.records()) == 3
        assert set(imbalances(await one.metrics()).values()) == {0.0}


WRONG = {
    "mode": ({"mode": "some", "type": "folder", "path": "b"}, r"backup\.mode: must be all or failed"),
    "type": ({"path": "b"}, r"backup\.type: is missing"),
    "key": ({"type": "folder", "pat": "b"}, r"backup\.pat: unknown key"),
    "name": ({"type": "folder", "path": "b", "name": "x"}, r"backup\.name: its name is 'backup'; leave it out"),
    "names": ({"type": "folder", "path": "out"}, r"backup\.prefix: gives its objects the names that 'folder' gives"),
    "twice": (
        {"mode": "failed", "type": "folder", "path": "b"},
        r"backup: with mode failed it is the error output; give errors or backup, not both",
    ),
}


@pytest.mark.parametrize(("backup", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_backup_is_told_at_its_place(backup: dict[str, Any], message: str) -> None:
    """Each mistake is named with its key and the way out."""
    stream = {"destination": {"type": "folder", "path": "out"}, "errors": {"type": "folder", "path": "e"}}
    document = {"delivery_streams": {"app": {**stream, "backup": backup}}}
    with pytest.raises(ConfigError, match=message):
        config.parse("f.yaml", json.dumps(document))


def test_backup_has_the_connection_of_its_destination() -> None:
    """A bucket beside the destination's needs no endpoint of its own."""
    s3 = {"type": "s3", "bucket": "lake", "endpoint_url": "http://far:9000", "region": "eu-west-1"}
    document = {"delivery_streams": {"app": {"destination": s3, "backup": {"type": "s3", "bucket": "source"}}}}
    backup = config.parse("f.yaml", json.dumps(document)).streams["app"].destinations["backup"]
    assert backup.model_dump()["endpoint_url"] == "http://far:9000"
