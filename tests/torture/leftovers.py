"""Lanes as a crash leaves them: sealed segments, and an open file behind them. They make the next recovery long."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import pyarrow as pa

from firehose.buffer.disk import LocalDisk
from firehose.buffer.lane import Group, Lane
from firehose.model import INTAKE_SCHEMA
from firehose.runtime import Runtime

SEGMENTS, FRAMES, RECORDS = 3, 2, 5  # at most, in each lane, segment and frame
RECORD = pa.schema([INTAKE_SCHEMA.field("record")])


def leave(data_dir: Path, stream: str, lanes: int, dice: random.Random) -> Iterator[str]:
    """Writes the lanes, durable, and yields the ids of their records."""
    runtime = Runtime()
    prefix = f"left-{dice.getrandbits(40):010x}"
    ids = (f"{prefix}-{number}" for number in count())
    for _ in range(lanes):
        lane = Lane(LocalDisk(), str(data_dir), stream, runtime.lane_name())
        lane.create()
        for _ in range(dice.randint(0, SEGMENTS)):
            yield from _frames(lane, ids, dice, runtime.now_ms())
            lane.seal(version=1)
        yield from _frames(lane, ids, dice, runtime.now_ms())
        lane.close()


def _frames(lane: Lane, ids: Iterator[str], dice: random.Random, now_ms: int) -> Iterator[str]:
    for _ in range(dice.randint(1, FRAMES)):
        chosen = list(islice(ids, dice.randint(1, RECORDS)))
        lane.append(_group(chosen, now_ms))
        yield from chosen


def _group(ids: Sequence[str], now_ms: int) -> Group:
    lines = [json.dumps({"id": one}).encode() + b"\n" for one in ids]
    records = pa.record_batch([pa.array(lines, pa.binary())], schema=RECORD)
    return Group([records], {}, now_ms, len(lines), sum(map(len, lines)))
