"""Dynamic partitions under kill -9: each record arrives once, in an object of its own partition."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracle import assert_each_once
from posting import Client
from programs import Programs, wait_for
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
