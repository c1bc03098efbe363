"""Dynamic partitions under kill -9: each record arrives once, in an object of its own partition."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from layouts import LAYOUTS, Sent
from oracle import assert_each_once
from posting import Client
from programs import Programs, wait_for
from running import to_folder
from whole_service import WholeService

KILLS, SEED = 10, 6
RECORDS, OBJECTS = 1000, 30  # more than so many make it a test


def objects(out: Path) -> Iterator[Path]:
    return (path for path in out.rglob("*") if path.is_file() and ".partial" not in path.parts)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in gzip.decompress(path.read_bytes()).splitlines()]


@pytest.mark.kill
def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Killed again and again while it takes, parts, gathers and delivers: missing 0, doubled 0, misplaced 0."""
    dice = random.Random(SEED)
    out = tmp_path / "out"
    stream = {
        "buffering": {"size_mib": 0.02, "interval_seconds": 1.5},
        "dynamic_partitioning": {"queries": {"digit": ".id[8:9]"}},
        "destination": {
            "type": "folder",
            "path": str(out),
            "prefix": "digit=!{partitionKeyFromQuery:digit}/",
            "compression": "gzip",
        },
    }
    with Programs(tmp_path) as programs:
        service = WholeService(programs, tmp_path / "service", {"app": stream})
        service.start()
        client = Client(service.port, random.Random(SEED))
        client.start()
        for _ in range(KILLS):
            client._ended.wait(dice.uniform(0.2, 2.5))
            if dice.random() < 0.5:
                service.kill()
                service.start()
            else:
                service.kill_delivery()
        wait_for(lambda: len(client.acknowledged) > RECORDS, "enough to be taken")
        wait_for(lambda: len(list(objects(out))) > OBJECTS, "enough of it to be delivered")
        wait_for(lambda: service.metric("firehose_cuts_total") > 0, "cuts to be told of")
        client.stop()
        service.release_until_delivered("app")  # three of the kills may have met one segment, or one cut
        service.kill()
    files = list(objects(out))
    found = Counter(one for path in files for one in ids(path))
    print(f"{KILLS} kills, {len(client.sent)} sent, {len(client.acknowledged)} acknowledged, {len(files)} objects")
    assert client.acknowledged <= set(found) <= client.sent
    assert_each_once(set(found), found.elements())
    assert all({one[-1] for one in ids(path)} == {path.relative_to(out).parts[0][-1]} for path in files)


@pytest.mark.kill
@pytest.mark.parametrize(
    ("change", "how"),
    [
        (("a", "b"), "told"),
        (("asked", "columns"), "delivery"),
        (("plain", "a"), "not told"),
        (("parquet", "plain"), "told"),
    ],
)
def test_killed_between_a_change_and_delivery(tmp_path: Path, change: tuple[str, str], how: str) -> None:
    """A service that is killed when it has followed a change, or its delivery half alone, or before it could hear of
    the change, delivers each record once, where the definition has it under which it was sealed: a start seals what a
    kill left open as it was.
    """
    old, new = (LAYOUTS[name] for name in change)
    blocked, out = tmp_path / "blocked", tmp_path / "blocked/out"
    blocked.write_text("a file where a folder should be")
    before, after = ({"app": one.stream(to_folder(tmp_path, "blocked/out"))} for one in (old, new))
    sent = Sent()
    with Programs(tmp_path) as programs:
        service = WholeService(programs, tmp_path / "service", before)
        service.start()

        def post(body: bytes) -> None:
            assert service.post("/ingest/app", body).status_code == 200

        post(sent.body("kl", old))
        service.post("/v1/streams/app/flush", b"")
        wait_for(lambda: bool(service.last_error("app")), "an attempt to deliver what was cut")
        active = service.metric("firehose_active_partitions")
        post(sent.body("klm", old, large=True))
        if old.partitioning is not None:
            wait_for(lambda: service.metric("firehose_active_partitions") > active, "what was sealed to be gathered")
        post(sent.body("k", old if how == "not told" else new))  # open
        if how == "not told":
            service.write(after)
        else:
            service.reload(after)
            wait_for(lambda: bool(service.stream("app")["version"] == 2), "the change to be followed")
            post(sent.body("klm", new, large=True))
            post(sent.body("l", new))
        if how == "delivery":
            service.kill_delivery()
        else:
            service.kill()
            service.start()
        post(sent.body("kl", new))
        blocked.unlink()
        service.deliver_all("app")
    sent.check(out)
