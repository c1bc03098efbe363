"""Destinations other than S3, each with the program that stands for its far side, which keeps and does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.rig import Rig, rig
from programs import free_port

Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Receiver:
    """`block` makes a destination's of a port and of the one for S3."""

    program: str
    block: Callable[[int, Block], Block]
    keeps: bool = True  # what it is sent, in the folder where objects are counted

    def start(self, one: Rig, port: int) -> None:
        one.bare(self.program, *([one.objects] if self.keeps else []), at=port)


def _endpoint(port: int, bucket: Block) -> Block:
    return {"type": "http", "url": f"http://127.0.0.1:{port}/", "body": "ndjson", "retry": {"deadline_seconds": 7200}}


def _collector(port: int, bucket: Block) -> Block:
    return {"type": "splunk", "hec_endpoint": f"http://127.0.0.1:{port}", "hec_token": "bench", "ack_poll_seconds": 0.1}


def _node(port: int, bucket: Block) -> Block:
    return {"type": "opensearch", "endpoint": f"http://127.0.0.1:{port}", "index": "events", "index_rotation": "none"}


def _cluster(port: int, bucket: Block) -> Block:
    """It stages what S3 would be given."""
    said = {"host": "127.0.0.1", "port": port, "database": "dev", "user": "bench", "password": "bench"}
    copy = {"sslmode": "disable", "table": "events", "copy_options": "JSON 'auto' GZIP"}
    staging = {name: value for name, value in bucket.items() if name != "type"}
    return {"type": "redshift", **said, **copy, "staging": {**staging, "prefix": "stage/"}}


RECEIVERS = {
    "http": Receiver("http_sink", _endpoint),
    "splunk": Receiver("hec_sink", _collector),
    "opensearch": Receiver("search_sink", _node),
    "redshift": Receiver("redshift_stub", _cluster, keeps=False),
}


@contextmanager
def rig_to(receiver: Receiver, *, away: bool = False, **options: Any) -> Iterator[tuple[Rig, int]]:
    """A rig that delivers to the receiver at that port; `away`: which is not started."""
    port = free_port()
    with rig(around=partial(receiver.block, port), **options) as one:
        if not away:
            receiver.start(one, port)
        yield one, port


def check(one: Rig) -> None:
    """As the rig does; manifests are no data."""
    for manifest in one.objects.glob("*~manifests~*"):  # the store's way to write a slash
        manifest.unlink()
    one.check()
