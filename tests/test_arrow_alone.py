"""What our processes load: pandas for whoever wants a data frame, large libraries with their first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOK = """
import sys
import {module}
assert not {{"rich", "boto3", "duckdb", "httpx", "pyarrow.fs"}} & {{*sys.modules}}, "loaded before anybody wants it"
from firehose.arrow_alone import without_pandas
import pyarrow as pa
assert "pandas" not in sys.modules, "importing our modules loads it"
assert pa.default_memory_pool().max_memory() == 0, "importing our modules takes memory from the wrong allocator"
without_pandas()
assert pa.array([1, 2]).to_pylist() == [1, 2]
assert "pandas" not in sys.modules, "a list that becomes an array loads it"
try:
    import pandas
except ImportError:
    sys.exit()
assert pa.table({{"a": [1]}}).to_pandas()["a"].tolist() == [1]
"""


@pytest.mark.parametrize("module", ["firehose.cli.commands", "firehose.delivery_half", "firehose.hooks.worker"])
def test_none_of_our_processes_loads_pandas(module: str) -> None:
    """Neither their modules nor lists that become arrays do; a data frame can still be had, where pandas is there. Nor
    do the modules load what only some stream, or a person at a terminal, has a use for, or take memory from Arrow
    before it is told from which allocator.
    """
    subprocess.run([sys.executable, "-c", LOOK.format(module=module)], check=True)


@pytest.mark.parametrize(
    ("half", "spared"),
    [
        ("firehose.service", "firehose.delivery_half h2 cramjam"),
        ("firehose.delivery_half", "yaml prometheus_client"),
        ("firehose.cli", "pyarrow numpy"),  # nothing reaches them before they are told how
    ],
)
def test_each_half_is_spared_what_it_does_not_need(half: str, spared: str) -> None:
    """What the other half alone needs, or only some clients, is not loaded before its first use."""
    look = f"import sys, {half}; print(*({{*'{spared}'.split()}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
