"""What the service is told: streams and options drawn by the seed, small enough that every threshold trips often."""

from __future__ import annotations

import json
from functools import lru_cache
from random import Random
from typing import Any

from simulation.store import KEYS, TIMEOUT_SECONDS

from firehose import config
from firehose.config import Config

PARTED = "parts"  # the stream that is split by the key `k` of its records, most of the time
PLACES = {"app": ("app-1",), "logs": ("logs-1", "logs-2"), "events": ("events-1",), PARTED: ("parts-1", "parts-2")}


class Settings:
    """`load` reads them as they are now; `redraw` and `toggle` are what a person changes before a reload."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._drawn = {name: self._draw() for name in PLACES}
        self._present = dict.fromkeys(PLACES, True)
        self._condition = dice.choice(("auto", "auto", "off"))
        self.in_flight_mib: float = dice.choice((0.004, 1))
        self._service = {
            "data_dir": "/data",
            "reserve_mib": 0.001,
            "drain_seconds": 5,
            "delivery": dice.choice(("process", "process", "inline")),
            "in_flight_mib": self.in_flight_mib,
            "sync_threads": dice.choice((1, 4)),
        }

    def redraw(self, stream: str) -> None:
        self._drawn[stream] = self._draw()

    def toggle(self, stream: str) -> None:
        """Takes the stream out of the configuration, or puts it back."""
        self._present[stream] = not self._present[stream]

    def load(self) -> Config:
        document = {
            "service": self._service,
            "delivery": {"backoff_seconds": 0.2, "backoff_limit_seconds": 5, "workers": 3},
            "delivery_streams": {name: self._stream(name) for name in PLACES if self._present[name]},
        }
        return _parsed(json.dumps(document))

    def _draw(self) -> dict[str, Any]:
        dice = self._dice
        return {
            "size_mib": dice.choice((0.0002, 0.001, 0.004)),
            "interval_seconds": dice.choice((0, 2, 10)),
            "prefix": dice.choice(("", "a/", "!{timestamp:yyyy}/")),
            "compression": dice.choice(("none", "gzip")),
            "multipart_threshold_mib": dice.choice((0.0003, 0.002)),
            "limit_gib": dice.choice((0.00002, 20)),
            "is_parted": dice.random() < 0.8,
        }

    def _stream(self, name: str) -> dict[str, Any]:
        drawn = self._drawn[name]
        block = {
            "type": "s3",
            **KEYS,
            "if_none_match": self._condition,
            "timeout_seconds": TIMEOUT_SECONDS,
            "part_size_mib": drawn["multipart_threshold_mib"],
            **{key: drawn[key] for key in ("prefix", "compression", "multipart_threshold_mib")},
        }
        stream: dict[str, Any] = {
            "buffering": {key: drawn[key] for key in ("size_mib", "interval_seconds")},
            "limit_gib": drawn["limit_gib"],
        }
        if name == PARTED and drawn["is_parted"]:
            block["prefix"] += "k=!{partitionKeyFromQuery:k}/"
            stream["dynamic_partitioning"] = {"queries": {"k": ".k"}}
            stream["buffering"]["interval_seconds"] = max(1, drawn["interval_seconds"])
        return {**stream, "destinations": [{**block, "name": bucket, "bucket": bucket} for bucket in PLACES[name]]}


@lru_cache(maxsize=64)
def _parsed(document: str) -> Config:
    return config.parse("firehose.yaml", document)
