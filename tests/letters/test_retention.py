"""Dead letters go when they have lain for `retention_days`, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import moody
import pytest
from data_folder import DataFolder
from s3_server import KEYS, Answer, S3Server, running
from structlog.testing import capture_logs
from virtual_time import START_MS, passed, run

import destinations
from firehose import config
from firehose.letters.retention import DAY_MS
from firehose.model import Segment
from firehose.naming import ObjectNames
from firehose.yaml_file import ConfigError

SEGMENT = Segment("app", "lane", 0, 1, 10, datetime(2026, 1, 1, 12, 30, tzinfo=UTC), 1)
NAMES = ObjectNames(error_output_prefix="bad/!{firehose:error-output-type}/!{timestamp:yyyy/MM}/")
AMAZON_S = "0e3f2a61-4b1c-4d6b-8f10-8b8d4fd3c3d5"
DATA = "destination: {type: folder, path: /x, prefix: mine/}"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


def streams(tmp_path: Path, **errors: Any) -> dict[str, Any]:
    block = {"type": "folder", "path": str(tmp_path / "errors"), "prefix": NAMES.error_output_prefix, **errors}
    return {"app": {"destination": moody.block(tmp_path), "errors": block}}


@pytest.fixture(autouse=True)
def _third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])


def error_name(first: int = 0, error_type: str = "processing-failed") -> str:
    return NAMES.error(replace(SEGMENT, first=first), error_type, "far")


def write(path: Path, days_old: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0123456789")
    written_ns = int(START_MS - days_old * DAY_MS) * 1_000_000
    os.utime(path, ns=(written_ns, written_ns))


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_old_goes(tmp_path: Path) -> None:
    """Objects written longer ago than that are removed at start, the others when their time has come; it is counted
    and logged.
    """

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path, retention_days=30))
        for first, days in enumerate((30.1, 500, 29.9, 0)):
            write(tmp_path / "errors" / error_name(first), days)
        with capture_logs() as logs:
            async with house.delivering() as half:
                await passed(1)
                assert left(tmp_path / "errors") == {error_name(2), error_name(3)}
                await passed(4 * 3600)
                assert left(tmp_path / "errors") == {error_name(3)}
                assert half.stats()["expired"] == {"app": (3, 30)}
        told = [log for log in logs if log["event"] == "letters.expired"]
        assert [(log["stream"], log["objects"], log["size_bytes"]) for log in told] == [("app", 2, 20), ("app", 1, 10)]

    run(scene())


def test_a_backup_of_what_failed(tmp_path: Path) -> None:
    """Where it is the error output, its days are those of dead letters."""

    async def scene() -> None:
        chosen = streams(tmp_path, retention_days=30, mode="failed")
        chosen["app"]["backup"] = chosen["app"].pop("errors")
        house = DataFolder(tmp_path, **chosen)
        write(tmp_path / "errors" / error_name(), 31)
        async with house.delivering():
            await passed(1)
        assert left(tmp_path / "errors") == set()

    run(scene())


def test_an_error_output_of_a_destination_s_own(tmp_path: Path) -> None:
    """Its days count there, whatever the stream's own error output says."""

    async def scene() -> None:
        chosen = streams(tmp_path)
        own = {**chosen["app"]["errors"], "path": str(tmp_path / "own"), "retention_days": 30}
        chosen["app"]["destination"] = {**chosen["app"]["destination"], "errors": own}
        house = DataFolder(tmp_path, **chosen)
        for folder in ("errors", "own"):
            write(tmp_path / folder / error_name(), 31)
        async with house.delivering():
            await passed(1)
        assert (left(tmp_path / "errors"), left(tmp_path / "own")) == ({error_name()}, set())

    run(scene())


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """However old: other streams' letters, what Amazon or a person wrote, error types that nobody knows."""

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path, retention_days=0.5))
        other = error_name(1).rsplit("/", 1)
        strangers = {
            NAMES.error(replace(SEGMENT, stream="apps"), "processing-failed", "far"),
            error_name(error_type="my-folder"),
            f"{other[0]}/{other[1][:-36]}{AMAZON_S}",
            f"{other[0]}/copy-of-{other[1]}",
            f"{other[0]}/{other[1]}/below",
            f"else/{error_name(2)}",
            "bad/processing-failed/2026/01/notes.txt",
            f".partial/{error_name(3)}",
        }
        for name in (*strangers, error_name()):
            write(tmp_path / "errors" / name, 400)
        async with house.delivering():
            await passed(1)
        assert left(tmp_path / "errors") == strangers

    run(scene())


def test_without_retention_all_stays(tmp_path: Path) -> None:
    """No days, no sweep; a reload that brings some begins one, and one that takes them away ends it."""

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path))
        async with house.delivering() as half:
            write(tmp_path / "errors" / error_name(), 400)
            await passed(5 * 3600)
            assert left(tmp_path / "errors") == {error_name()}
            house.follow(**streams(tmp_path, retention_days=7))
            await half.handle({"do": "reload"})
            await passed(1)
            assert left(tmp_path / "errors") == set()
            house.follow(**streams(tmp_path))
            await half.handle({"do": "reload"})
            write(tmp_path / "errors" / error_name(), 400)
            await passed(5 * 3600)
            assert left(tmp_path / "errors") == {error_name()}

    run(scene())


def test_a_bucket(tmp_path: Path, server: S3Server) -> None:
    """A bucket is swept as a folder is; while the store fails it is told, and an hour later tried again."""
    bucket = server.new_bucket()
    client = server.client()
    client.put_object(Bucket=bucket, Key=error_name(), Body=b"0123456789")
    client.put_object(Bucket=bucket, Key="bad/else", Body=b"")
    client.close()
    block = {"type": "s3", "bucket": bucket, "endpoint_url": server.url, "path": None, **KEYS, "retention_days": 2}
    chosen = streams(tmp_path, **block)
    del chosen["app"]["errors"]["path"]

    async def scene() -> None:
        house = DataFolder(tmp_path, **chosen)
        house.runtime.wall_ms = 4_000_000_000_000  # moto's clock is the real one: this is long after it
        server.script += [("delete", Answer(403, "AccessDenied"))]
        with capture_logs() as logs:
            async with house.delivering() as half:
                await passed(1)
                assert set(server.objects(bucket)) == {error_name(), "bad/else"}
                await passed(3600)
                assert set(server.objects(bucket)) == {"bad/else"}
                assert half.stats()["expired"] == {"app": (1, 10)}
        (told,) = [log for log in logs if log["event"] == "letters.sweep_failed"]
        assert "AccessDenied" in told["reason"]

    run(scene())


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("destination: {type: folder, path: /x, retention_days: 3}", r"destination\.retention_days: is for an errors"),
        (f"{DATA}, errors: {{type: folder, path: /y, retention_days: 0}}", "greater than 0"),
        (f"{DATA}, errors: {{type: folder, path: /x, prefix: '', retention_days: 1}}", "cannot tell dead letters from"),
    ],
)
def test_configuration(stream: str, said: str) -> None:
    """Days are for dead letters alone, and only where no data could be taken for them."""
    with pytest.raises(ConfigError, match=said):
        config.parse("x.yaml", f"delivery_streams: {{app: {{{stream}}}}}")
    for prefix in ("prefix: bad/, ", ""):
        good = f"{DATA}, errors: {{type: folder, path: /x, {prefix}retention_days: 1}}"
        assert config.parse("x.yaml", f"delivery_streams: {{app: {{{good}}}}}").streams["app"].errors is not None
