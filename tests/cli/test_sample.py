"""Sample records: the same for ever, and like real ones."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from random import Random

import pytest
from cli.running import good

from firehose import sample

COUNT = 1000
Make = Callable[[Random], Iterator[bytes]]


def made(make: Make, seed: int) -> list[bytes]:
    return list(islice(make(Random(seed)), COUNT))


@pytest.mark.parametrize("make", [sample.events, sample.access_lines])
def test_the_seed_decides(make: Make) -> None:
    """A seed makes the same bytes each time, and another seed others; none has a newline inside."""
    assert made(make, 7) == made(make, 7)
    assert made(make, 7) != made(make, 8)
    assert not any(b"\n" in record for record in made(make, 7))


def test_the_bytes_stay() -> None:
    """The bytes are those of every release: benchmarks and documents rely on them."""
    digest = hashlib.sha256(b"\n".join(made(sample.events, 1))).hexdigest()
    assert digest == "10bc93f1494c11cb0b65bf176a3dc9203d0dfcc83437f37476c661ccf81f596d"


def test_events_look_real() -> None:
    """Events are JSON objects of about half a KiB with times that only go forward, good and bad answers among them."""
    records = made(sample.events, 1)
    events = [json.loads(record) for record in records]
    assert 480 <= sum(map(len, records)) / COUNT <= 540
    assert all(a["timestamp"] <= b["timestamp"] for a, b in pairwise(events))
    assert {event["status"] for event in events} >= {200, 404, 500}
    assert {event["level"] for event in events} == {"INFO", "WARN", "ERROR"}


def test_access_lines_look_real() -> None:
    """Access lines are in the combined format."""
    combined = re.compile(
        rb'[\d.]+ - \w+ \[\d\d/\w{3}/\d{4}:[\d:]{8} \+0000\] "[A-Z]+ /\S+ HTTP/1.1" \d{3} \d+ "\S+" ".+"'
    )
    assert all(combined.fullmatch(line) for line in made(sample.access_lines, 1))


@pytest.mark.parametrize(("shape", "make"), [("json", sample.events), ("access", sample.access_lines)])
def test_the_command_prints_them(shape: str, make: Make) -> None:
    """`firehose sample` prints what the generator makes, a record a line, also at a rate."""
    expected = b"\n".join(made(make, 5)[:25]).decode() + "\n"
    assert good("sample", "--count", "25", "--seed", "5", "--format", shape) == expected
    assert good("sample", "--count", "25", "--seed", "5", "--format", shape, "--rate", "10000") == expected
