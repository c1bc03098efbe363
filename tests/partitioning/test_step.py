"""The step as a whole: which partition a row has, what is refused, and that rows stay as they are otherwise."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from batches import Notes, batch, rows, segment
from hypothesis import given
from hypothesis import strategies as st
from key_steps import Keys, outcome_of, parted, told, working
from sites import site
from virtual_time import Inline

from destinations.folder import Folder, FolderOptions
from firehose import partitions
from firehose.delivery.outcomes import verify
from firehose.naming import PREFIX_LIMIT_BYTES
from firehose.partitioning.step import Partition
from firehose.partitions import COLUMN, ActivePartitions, columns_in_path
from firehose.rows import bare

SAMPLES = (b'{"c":"a"}', b'{"c":"b"}\n', b'{"c":"c"}', b'{"c":"d"}', b'{"c":7}', b'{"d":1}', b'{"c":[]}', b"no", b"")
QUERY = "c=!{partitionKeyFromQuery:c}/"


def keys(value: str) -> Keys:
    return {"partitionKeyFromQuery": {"c": value}}


async def test_rows_are_kept() -> None:
    """Rows keep their columns, order and bytes; each that is not refused has a partition, with a name for each."""
    step = working(QUERY, queries={"c": ".c"})
    given = [b'{"c":"a"}', b"no", b'{"c":"b"}\n', b'{"c":"a"}']
    outcome = await outcome_of(step, given, meta=pa.array(["m"] * 4))
    verify(rows(given), outcome, "step")
    assert outcome.rows.schema.names == ["record", "row", "part", "arrival_ms", "meta", partitions.COLUMN]
    assert outcome.rows.column("record").to_pylist() == [given[0], given[2], given[3]]
    assert outcome.rows.schema.field(partitions.COLUMN).type == pa.dictionary(pa.int32(), pa.string())
    assert parted(outcome) == {0: keys("a"), 2: keys("b"), 3: keys("a")}


@given(st.lists(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=5), min_size=1, max_size=4), st.booleans())
def test_slices_without_their_records(given_slices: list[list[bytes]], is_handed: bool) -> None:
    """Of several slices comes what comes of their rows together; those that go on have sizes instead of records."""
    prefix = "c=!{partitionKeyFromQuery:c}/h=!{partitionKeyFromLambda:h}/" if is_handed else QUERY
    whole = rows([record for records in given_slices for record in records])
    if is_handed:
        metas = [f'{{"partitionKeys":{{"h":"{row % 2}"}}}}' for row in range(whole.num_rows)]
        whole = whole.append_column("meta", pa.array(metas))
    ends = [0, *accumulate(map(len, given_slices))]
    slices = [whole.slice(start, end - start) for start, end in pairwise(ends)]
    expected, made = (working(prefix, site(Inline()), queries={"c": ".c"}, limit=2) for _ in range(2))
    assert isinstance(expected, Partition)
    assert isinstance(made, Partition)
    together, apart = expected(whole), made.bare_outcome(slices)
    assert apart.rows.to_pylist() == bare(together.rows).to_pylist()
    assert apart.refused.table.equals(together.refused.table)


async def test_queries_and_columns_together() -> None:
    """A stream may have both: the prefix names the queries' keys, and columns follow it."""
    step = working(QUERY, queries={"c": ".c"}, columns=["day(t)"])
    outcome = await outcome_of(step, [b'{"c":"a","t":0}'])
    assert parted(outcome) == {0: {**keys("a"), "column": {"t_day": "1970-01-01"}}}


@pytest.mark.parametrize(
    ("columns", "left_out"), [(["day(t)"], ()), (["t"], ("t",)), (["u.id"], ()), (["u.id", "u", "day(t)"], ("u",))]
)
async def test_columns_that_are_fields(columns: list[str], left_out: tuple[str, ...]) -> None:
    """Of columns, those are told apart that are a field as it is: what is made of one may be called like another."""
    outcome = await outcome_of(working("x/", columns=columns), [b'{"t":0,"u":null}'])
    (text,) = outcome.rows.column(COLUMN).to_pylist()
    assert columns_in_path(text) == left_out


async def test_limit() -> None:
    """Rows that would open a partition past the limit are refused as AWS does; those of open ones go on."""
    here = site(Inline())
    step = working(QUERY, here, queries={"c": ".c"}, limit=2)
    outcome = await outcome_of(step, [b'{"c":"a"}', b'{"c":"b"}', b"no", b'{"c":"c"}', b'{"c":"a"}'])
    assert [*parted(outcome)] == [0, 1, 4]
    table = outcome.refused.table
    assert table.column("row").to_pylist() == [2, 3]
    assert table.column("error_type").to_pylist() == ["metadata-extraction-failed", "activePartitionExceeded"]
    assert table.column("code").to_pylist()[1] == "DynamicPartitioning.ActivePartitionsLimitExceeded"
    assert "2 active partitions, its limit" in told(outcome)[3]
    again = await outcome_of(step, [b'{"c":"b"}', b'{"c":"d"}'])
    assert [*parted(again)] == [0]
    active = here.shared.of(ActivePartitions)
    assert active.admit("app", [], 2) == set()
    assert active.exceeding() == {"app": 2}


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        *(("x" * 253, False), ("x" * 254, True), ("é" * 200, True)),
        *(("x/" * 200, False), ("x/" * 300, True), ("k" * 2048, True)),
    ],
)
async def test_long_values(value: str, refused: bool) -> None:
    """Whatever no object of a destination can be named after is refused at once: it would fail for ever."""
    outcome = await outcome_of(working(QUERY, queries={"c": ".c"}), [f'{{"c":"{value}"}}'.encode()])
    assert bool(told(outcome)) == refused
    assert refused or parted(outcome) == {0: keys(value)}


async def test_prefix_length() -> None:
    """The refusal of a long prefix is in AWS's words."""
    record = b'{"c":"%b"}' % (b"x/" * PREFIX_LIMIT_BYTES)
    outcome = await outcome_of(working(QUERY, queries={"c": ".c"}), [record])
    assert told(outcome) == {0: "Length of evaluated prefix cannot be greater than 512"}


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("a", "c=a"),
        ("a/b", "c=a/b"),
        ("..", "c=.."),
        ("x/../y", "c=x/%2E%2E/y"),
        ("/", "c=/"),
        ("ü ☃", "c=ü ☃"),
        ("a\x00\n", "c=a%00%0A"),
        ("%2E", "c=%2E"),
    ],
)
async def test_any_value_in_a_folder(value: str, folder: str, tmp_path: Path) -> None:
    """Values name folders as AWS names prefixes; none of them leads out of the destination's own."""
    options = FolderOptions(path=str(tmp_path / "out"), prefix=QUERY)
    text = partitions.encode([("partitionKeyFromQuery", "c", value)])
    of = segment(lane="lane#0123456789abcdef")
    receipt = await Folder(options, site(Inline())).deliver(batch([b"x"], of=of, partition=text), Notes())
    (name,) = receipt.objects
    assert name.rpartition("/")[0].replace("//", "/").rstrip("/") == folder.rstrip("/")
    assert (tmp_path / "out" / name).read_bytes() == b"x"


async def test_one_folder_for_each_column(tmp_path: Path) -> None:
    """Columns make Hive's folders behind the prefix, special characters encoded as Hive does, and no date of ours."""
    options = FolderOptions(path=str(tmp_path / "out"), prefix="logs/")
    text = partitions.encode([("column", "ts_day", "2026-11-22"), ("column", "a=b", "x/..\\%é?")])
    receipt = await Folder(options, site(Inline())).deliver(batch([b"x"], partition=text), Notes())
    assert receipt.objects[0].startswith("logs/ts_day=2026-11-22/a%3Db=x%2F..%5C%25é%3F/app-1-2026-")
