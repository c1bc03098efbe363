"""OpenSearch: documents a second, beside those of opensearch-py's own `parallel_bulk`, on the same node in one run.

Both send the same records to indices that are made alike, in requests of the same size, as many at once. Theirs are
bytes already, with an id each, as ours: what is measured is the making of requests, the sending, and the reading of
answers. Each index is counted at the end. The rounds alternate, for the node grows warm.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batches import Notes, batch
from bench import corpus
from bench.work import Figures, Goal, Scale, Work
from opensearchpy.helpers import parallel_bulk
from programs import Programs
from search_server import SearchServer, search_server_is_there
from sites import site

from destinations.opensearch import AT_ONCE, OpenSearch, OpenSearchOptions
from firehose.runtime import Runtime

ROUNDS = 3
REQUEST_RECORDS = 2000
MAPPINGS = {"dynamic": False, "properties": {"level": {"type": "keyword"}, "service": {"type": "keyword"}}}
INDEX = {"settings": {"number_of_replicas": 0, "refresh_interval": "-1"}, "mappings": MAPPINGS}


def opensearch(scale: Scale) -> Figures:
    """Medians would hide that the node has its own moods: all rounds count, one after the other."""
    assert search_server_is_there(), "no OpenSearch: tests/live/install gets it"
    records = [one for body in range(corpus.BODIES) for one in corpus.records(corpus.SHAPES["ingest-100"], body)]
    records = records * scale.of(12, 2)
    ours, theirs = Taken(), Taken()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Programs(Path(folder)) as programs:
        server = SearchServer(programs, Path(folder) / "node")
        server.start()
        for number in range(ROUNDS + 1):
            for taken, load in ((ours, by_us), (theirs, by_parallel_bulk)):
                seconds, cpu_seconds = timed(server, f"{load.__name__}-{number}", records, load)
                if number:  # the first warms the node
                    taken.seconds += seconds
                    taken.cpu_seconds += cpu_seconds
        server.close()
    count = len(records) * ROUNDS
    return {
        "documents_per_s": count / ours.seconds,
        "parallel_bulk_per_s": count / theirs.seconds,
        "ratio": theirs.seconds / ours.seconds,
        "cpu_us_per_document": ours.cpu_seconds / count * 1e6,
        "parallel_bulk_cpu_us": theirs.cpu_seconds / count * 1e6,
    }


class Taken:
    """What one side's rounds have taken so far; of the CPU, this process's alone."""

    seconds = 0.0
    cpu_seconds = 0.0


Load = Callable[[SearchServer, str, list[bytes]], None]


def timed(server: SearchServer, index: str, records: list[bytes], load: Load) -> tuple[float, float]:
    server.client.indices.create(index=index, body=INDEX)
    began, used = time.perf_counter(), time.process_time()
    load(server, index, records)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    server.client.indices.refresh(index=index)
    count = server.client.count(index=index)["count"]
    assert count == len(records), f"{index} holds {count} of {len(records)} documents"
    server.client.indices.delete(index=index)
    return seconds, cpu_seconds


def by_us(server: SearchServer, index: str, records: list[bytes]) -> None:
    asyncio.run(_deliver(server.destination(index, bulk_records=REQUEST_RECORDS), records))


async def _deliver(block: Mapping[str, Any], records: list[bytes]) -> None:
    threads = Runtime().threads("bench", 4)
    destination = OpenSearch(OpenSearchOptions.model_validate(block), site(threads))
    receipt = await destination.deliver(batch(records, rows_per_slice=REQUEST_RECORDS), Notes())
    assert not len(receipt.refused)
    await destination.close()
    threads.close()


def by_parallel_bulk(server: SearchServer, index: str, records: list[bytes]) -> None:
    actions = _actions(index, records)
    bounds = {"thread_count": AT_ONCE, "queue_size": AT_ONCE, "chunk_size": REQUEST_RECORDS}
    for succeeded, item in parallel_bulk(server.client, actions, **bounds):  # type: ignore[arg-type]
        assert succeeded, item


def _actions(index: str, records: list[bytes]) -> Iterator[Mapping[str, Any]]:
    for number, record in enumerate(records):
        yield {"_index": index, "_id": f"{number:056d}.0", "_source": record.decode().rstrip()}


WORKS = (
    Work(
        "opensearch",
        "documents of 512 bytes into OpenSearch, 2000 a request, 4 at once, beside opensearch-py's parallel_bulk",
        (
            Goal("documents_per_s", "documents/s", ">=", 0, "parallel_bulk_per_s"),
            Goal("ratio", "of parallel_bulk's documents/s", ">=", 1),
            Goal("cpu_us_per_document", "CPU us a document", "<=", 15, "parallel_bulk_cpu_us"),
        ),
        opensearch,
    ),
)
