"""Streams as tables: every form that objects have, every place, and what is damaged or hostile in them."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lake
import pytest
from lake import LINES, asked, name, opened, packed, parsed, place, write
from s3_server import KEYS, Answer, S3Server, running

from firehose.compression import CODECS
from firehose.config import Config
from firehose.lake.engine import tables
from firehose.lake.views import DamagedObjects
from firehose.letters.shelf import Unreadable
from firehose.sql.engine import BadQuery


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


def folder(path: Path, **more: Any) -> Config:
    return parsed(app={"type": "folder", "path": str(path / "out"), **more})


def put(path: Path, configured: Config, *contents: bytes, extension: str = "") -> list[Path]:
    """Objects of the stream `app`."""
    names = [name(configured, "app", first, extension=extension) for first in range(len(contents))]
    return [write(path / "out" / one, content) for one, content in zip(names, contents, strict=True)]


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("form", ["json_lines", "raw"])
def test_json_in_a_folder(tmp_path: Path, form: str, compression: str) -> None:
    """Whatever objects are packed with, their lines are rows, with every column that any of them has."""
    configured = folder(tmp_path, compression=compression, format={"type": form})
    put(tmp_path, configured, packed(LINES, compression), packed([b'{"status":200,"who":{"id":7}}\n'], compression))
    query = "select status, count(*) n, sum(ms) ms, max(who.id) who from app group by 1 order by 1"
    found = asked(tmp_path, query, place(configured, "app"))
    assert found.columns == ["status", "n", "ms", "who"]
    assert found.rows == [(200, 2, 1.5, 7), (404, 1, None, None)]


@pytest.mark.parametrize("compression", CODECS)
def test_json_in_a_bucket(tmp_path: Path, compression: str, server: S3Server) -> None:
    """The same out of S3, by the block's own connection."""
    bucket = server.new_bucket()
    block = {"type": "s3", "bucket": bucket, "endpoint_url": server.url, "compression": compression, **KEYS}
    configured, client = parsed(app=block), server.client()
    client.put_object(Bucket=bucket, Key=name(configured, "app"), Body=packed(LINES, compression))
    client.close()
    with at(configured) as there:
        assert asked(tmp_path, "select sum(status) from app", there).rows == [(604,)]


def at(configured: Config) -> Any:
    return lake.closing(place(configured, "app"))


ROWS = [{"id": n, "text": f"text {n}", "big": "x" * 500} for n in range(5000)]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4"])
def test_parquet(tmp_path: Path, compression: str) -> None:
    """Parquet objects with different columns are one table."""
    configured = folder(tmp_path)
    first, second = lake.parquet(ROWS, compression=compression), lake.parquet([{"id": 7, "more": 1.5}])
    put(tmp_path, configured, first, second, extension=".parquet")
    found = asked(tmp_path, "select count(*), sum(id), max(more), count(text) from app", place(configured, "app"))
    assert found.rows == [(5001, sum(range(5000)) + 7, 1.5, 5000)]


GROWN: list[dict[str, Any]] = [{"who": {"id": 1}}, {"who": {"id": 2, "home": {"city": "x", "at": {"lat": 1.5}}}}]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select max(who.home.city) from app", [("x",)]),
        ("select who.id, who.home.at.lat from app order by 1", [(1, None), (2, 1.5)]),
        ("select who.home.at from app where who.home.city = 'x'", [({"lat": 1.5},)]),
    ],
)
def test_structs_that_have_grown(tmp_path: Path, query: str, rows: list[Any]) -> None:
    """A field of a struct that lies within a struct and came later is read, and null where an object lacks it."""
    configured = folder(tmp_path)
    put(tmp_path, configured, *(lake.parquet([row]) for row in GROWN), extension=".parquet")
    assert asked(tmp_path, query, place(configured, "app")).rows == rows


def test_parquet_in_a_bucket_is_read_in_ranges(tmp_path: Path, server: S3Server) -> None:
    """Of a large object, only what the query needs is fetched: its footer, and the columns and row groups it names."""
    bucket = server.new_bucket()
    configured = parsed(app={"type": "s3", "bucket": bucket, "endpoint_url": server.url, **KEYS})
    client = server.client()
    rows = [{"id": n, "noise": f"{n * 7919 % 104729:09d}" * 20} for n in range(40_000)]
    content = lake.parquet(rows, row_group_size=10_000, compression="none", use_dictionary=False)
    client.put_object(Bucket=bucket, Key=name(configured, "app", extension=".parquet"), Body=content)
    client.close()
    read: list[int] = []
    with lake.closing(place(configured, "app")) as there, opened(tmp_path, there, report=read.append) as views:
        assert views.ask("select count(*), sum(id) from app where id >= 30000", 10).rows == [(10_000, 349_995_000)]
    assert len(content) > 7_000_000
    assert sum(read) < 2_000_000


def test_orc(tmp_path: Path) -> None:
    """ORC objects with different columns are one table, whose folders are columns; it can be read twice in a query."""
    configured = folder(tmp_path, prefix="dt=!{timestamp:yyyy-MM-dd}/")
    put(tmp_path, configured, lake.orc(ROWS), lake.orc([{"id": 7, "more": 1.5}]), extension=".orc")
    query = "select count(*), sum(a.id), max(a.more), min(a.dt) from app a where id in (select id from app)"
    day = dt.date(2026, 3, 1)
    assert asked(tmp_path, query, place(configured, "app")).rows == [(5001, sum(range(5000)) + 7, 1.5, day)]


def test_folders_of_orc(tmp_path: Path) -> None:
    """Keys have the types that they have above Parquet, and stand before columns of their names, whatever these are."""
    configured = folder(tmp_path, prefix="logs/", format={"type": "orc"})
    last = name(configured, "app", extension=".orc").rpartition("/")[2]
    row = {"hour": "07", "N": "seven", "id": 1}
    write(tmp_path / f"out/logs/day=2026-03-01/n=7/hour=07/seen=2026-03-01 07:00:00/{last}", lake.orc([row]))
    write(tmp_path / f"out/logs/n=8/hour=__HIVE_DEFAULT_PARTITION__/{last}", lake.orc([{"hour": "08", "id": 2}]))
    found = asked(tmp_path, "select day, n, hour, seen, id from app where n > 6 order by id", place(configured, "app"))
    first = (dt.date(2026, 3, 1), 7, "07", "2026-03-01 07:00:00", 1)
    assert found.rows == [first, (None, 8, None, None, 2)]


def test_orc_whose_types_have_changed(tmp_path: Path) -> None:
    """A column has a type that all of its values fit: text where there is no other."""
    configured = folder(tmp_path)
    put(tmp_path, configured, *(lake.orc([{"v": v}]) for v in (1, 2.5, True, "text")), extension=".orc")
    found = asked(tmp_path, "select v from app", place(configured, "app"))
    assert sorted(found.rows) == [("1",), ("2.5",), ("text",), ("true",)]


def test_forms_in_company(tmp_path: Path) -> None:
    """Objects from before and after a change of format are one table."""
    configured = folder(tmp_path)
    put(tmp_path, configured, b"".join(LINES))
    put(tmp_path, configured, lake.parquet([{"status": 500}]), extension=".parquet")
    put(tmp_path, configured, lake.orc([{"status": 501, "late": True}]), extension=".orc")
    query = "select status, late from app order by status"
    found = asked(tmp_path, query, place(configured, "app"))
    assert found.rows == [(200, None), (404, None), (500, None), (501, True)]


def test_folders_are_columns(tmp_path: Path) -> None:
    """Keys in folders' names are columns, decoded, of a fitting type, where digits behind a zero stay text; an object
    without a key has NULL there.
    """
    configured = folder(tmp_path, prefix="logs/")
    last = name(configured, "app").rpartition("/")[2]
    write(tmp_path / f"out/logs/day=2026-03-01/country=a%2Fb/n=7/hour=07/{last}", b"".join(LINES))
    write(tmp_path / f"out/logs/day=2026-03-02/country=__HIVE_DEFAULT_PARTITION__/n=8/hour=08/{last}", LINES[0])
    write(tmp_path / "out" / name(configured, "app"), LINES[1])
    query = "select day, country, n, hour, count(*) from app group by all order by day nulls last"
    found = asked(tmp_path, query, place(configured, "app"))
    first, second = dt.date(2026, 3, 1), dt.date(2026, 3, 2)
    assert found.rows == [(first, "a/b", 7, "07", 2), (second, None, 8, "08", 1), (None, None, None, None, 1)]


@pytest.mark.parametrize("form", ["parquet", "orc", "json"])
def test_columns_that_were_folders(tmp_path: Path, form: str) -> None:
    """Objects from before or after a change of partitions have the value in the folder or in a column: it is one."""

    def made(**row: Any) -> bytes:
        return json.dumps(row).encode() if form == "json" else bytes(getattr(lake, form)([row]))

    configured = folder(tmp_path, prefix="logs/")
    last = name(configured, "app", extension="" if form == "json" else f".{form}").rpartition("/")[2]
    write(tmp_path / f"out/logs/k=1/{last}", made(id=1))
    write(tmp_path / f"out/logs/k=2/day=2026-03-01/{last}", made(id=2))
    write(tmp_path / "out" / name(configured, "app", extension=Path(last).suffix), made(id=3, k=3))
    found = asked(tmp_path, "select id, k, day from app order by id", place(configured, "app"))
    assert found.rows == [(1, 1, None), (2, 2, dt.date(2026, 3, 1)), (3, 3, None)]


@pytest.mark.parametrize(
    ("before", "after", "text", "rows"),
    [
        (1, {"b": 2}, "a->>'b', k", [(None, None), ("2", 1)]),
        ({"b": 1}, {"c": 2}, "a.b, a.c", [(1, None), (None, 2)]),
        (1, 2.5, "a + 1, k", [(2.0, None), (3.5, 1)]),
        (1, "2026-03-01T10:00:00Z", "a->>'$', k", [("1", None), ("2026-03-01T10:00:00Z", 1)]),
        ("2026-03-01", "soon", "upper(a), k", [("2026-03-01", None), ("SOON", 1)]),
        ([1], [{"b": 2}], "len(a), k", [(1, None), (1, 1)]),
    ],
)
def test_a_type_that_changed_with_the_partitions(
    tmp_path: Path, before: Any, after: Any, text: str, rows: list[tuple[Any, ...]]
) -> None:
    """Lines of JSON before and after a change of partitions have columns of one type, as if there had been none."""
    configured = folder(tmp_path, prefix="logs/")
    whole = name(configured, "app")
    write(tmp_path / "out" / whole, json.dumps({"n": 1, "a": before}).encode())
    write(tmp_path / f"out/logs/k=1/{whole.rpartition('/')[2]}", json.dumps({"n": 2, "a": after}).encode())
    assert asked(tmp_path, f"select {text} from app order by n", place(configured, "app")).rows == rows


def test_keys_that_are_data(tmp_path: Path) -> None:
    """However many different keys there are in folders' names, each is a column."""
    configured = folder(tmp_path, prefix="logs/")
    last = name(configured, "app", extension=".parquet").rpartition("/")[2]
    for n in range(30):
        write(tmp_path / f"out/logs/k{n}={n}/{last}", lake.parquet([{"id": n}]))
    found = asked(tmp_path, "select sum(id), max(k7), sum(k29), count(k0) from app", place(configured, "app"))
    assert found.rows == [(435, 7, 29, 1)]


def test_hundreds_of_objects(tmp_path: Path) -> None:
    """They are read in the memory of a few."""
    configured = folder(tmp_path, compression="gzip")
    lines = [b'{"n":%d,"c%d":1}\n' % (n, n % 7) for n in range(300)]
    put(tmp_path, configured, *(packed([line], "gzip") for line in lines))
    found = asked(tmp_path, "select count(*), sum(n), count(c3) from app", place(configured, "app"))
    assert found.rows == [(300, sum(range(300)), len(range(3, 300, 7)))]


def test_records_without_newlines(tmp_path: Path) -> None:
    """Records of the AWS API stand back to back, or on several lines: each is a row all the same."""
    configured = folder(tmp_path)
    put(tmp_path, configured, b'{"a":1}{"a":2}\n{"a":\n3}', b'{"a":4}')
    assert asked(tmp_path, "select sum(a) from app", place(configured, "app")).rows == [(10,)]


def test_values_that_are_no_objects(tmp_path: Path) -> None:
    """Where lines hold other JSON than objects, they are a column `json`."""
    configured = folder(tmp_path)
    put(tmp_path, configured, b'{"a":1}\n42\n[1,2]\n')
    found = asked(tmp_path, "select json from app order by json::varchar", place(configured, "app"))
    assert (found.columns, found.rows) == (["json"], [("42",), ("[1,2]",), ('{"a":1}',)])


@pytest.mark.parametrize("levels", [100, 200, 900])
def test_deep_records(tmp_path: Path, levels: int) -> None:
    """However deep a record is nested, all are rows, with every column; what is too deep for a struct is JSON."""
    configured = folder(tmp_path)
    deep = b'{"n":2,"a":' + b'{"a":' * levels + b"1" + b"}" * levels + b',"b":' + b"[" * levels + b"]" * levels + b"}"
    put(tmp_path, configured, b'{"n":1,"s":{"x":7}}\n' + deep + b"\n", deep.replace(b'"n":2,', b'"n":3,"x/~":"y",'))
    found = asked(
        tmp_path, 'select sum(n), max(s.x), count(a), count(b), max("x/~") from app', place(configured, "app")
    )
    assert found.rows == [(6, 7, 2, 2, "y")]


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_a_field_twice(tmp_path: Path, skip_damaged: bool) -> None:
    """A line that has a field twice, at any depth, keeps no other from being read: its first value counts."""
    configured = folder(tmp_path)
    twice = b'{"n":2,"n":"x","at":"2026-03-01T12:00:00Z","s":{"x":1,"x":2}}\n'
    put(tmp_path, configured, b'{"n":1,"s":{"x":7,"y":[1]}}\n', twice)
    text = "select n->>'$' as n, cast(\"at\" as varchar), s.x from app order by n"
    found = asked(tmp_path, text, place(configured, "app"), skip_damaged=skip_damaged)
    assert found.rows == [("1", None, 7), ("2", "2026-03-01 12:00:00", 1)]


def test_empty_objects(tmp_path: Path) -> None:
    """An object without a record has no row."""
    configured = folder(tmp_path)
    put(tmp_path, configured, b"", LINES[0], b"\n")
    assert asked(tmp_path, "select count(*) from app", place(configured, "app")).rows == [(1,)]


HOSTILE = ["a*b", "a?b", "[ab]", "{a,b}", "a b", "ü", "a%20b", "a'b", 'a"b', "a=b", "a\\b", "**", "lake:", "$x", "a#b"]


def test_hostile_names(tmp_path: Path) -> None:
    """Partition values that mean something to globs, SQL or paths are names and nothing else."""
    configured = folder(tmp_path, prefix="logs/")
    last = name(configured, "app").rpartition("/")[2]
    for number, value in enumerate(HOSTILE):
        write(tmp_path / f"out/logs/key={value}/{last}", b'{"n":%d}\n' % number)
        write(tmp_path / f"out/logs/key={value}/{last}.parquet", lake.parquet([{"n": 100 + number}]))
    found = asked(tmp_path, "select n, key from app order by n", place(configured, "app"))
    assert [n for n, _ in found.rows] == [*range(len(HOSTILE)), *range(100, 100 + len(HOSTILE))]
    expected = [value.replace("%20", " ") for value in HOSTILE]
    assert [key for _, key in found.rows] == expected * 2


def test_other_things_are_passed_over(tmp_path: Path) -> None:
    """Errors, other streams, a backup under a longer prefix, schemas and unfinished files are no data of the stream."""
    out = tmp_path / "out"
    configured = parsed(
        app={"type": "folder", "path": str(out), "prefix": "app/"},
        app_2={"type": "folder", "path": str(out), "prefix": "app/"},
    )
    names = place(configured, "app").block
    put(tmp_path, configured, *LINES)
    file = name(configured, "app").rpartition("/")[2]
    for other in (
        f"app/processing-failed/2026/03/01/12/{file}",
        f"app/source/2026/03/01/12/{file}",
        name(configured, "app-2"),
        "app/_schemas/app-v0001.json",
        f".partial/{file}",
        "app/notes.txt",
    ):
        write(out / other, b"neither JSON nor ours")
    assert names.prefix == "app/"
    objects, strays = place(configured, "app").objects()
    assert (len(objects), strays) == (2, 1)
    assert asked(tmp_path, "select count(*) from app", place(configured, "app")).rows == [(2,)]


INJECTIONS = [
    "select * from read_text('/etc/passwd')",
    "select * from read_csv('/etc/passwd')",
    "select * from read_blob('/etc/*')",
    "select * from glob('/etc/*')",
    "select * from read_parquet('http://127.0.0.1:1/x.parquet')",
    "select * from parquet_metadata('/etc/passwd')",
    "select * from read_json('lake://../../etc/passwd')",
    "select getenv('HOME') from app",
    "select * from app union all select content from read_text('/etc/passwd')",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_else_is_reached(tmp_path: Path, text: str) -> None:
    """A query reaches no file, no network and no environment beside the objects."""
    configured = folder(tmp_path)
    put(tmp_path, configured, *LINES)
    with pytest.raises(BadQuery):
        asked(tmp_path, text, place(configured, "app"))


STATEMENTS = [
    "copy app to '/tmp/x'",
    "select 1; copy app to '/tmp/x'",
    "create table t as select 1",
    "set threads = 8",
    "attach '/tmp/x.db'",
    "install httpfs",
    "pragma enable_external_access",
    "explain analyze copy app to '/tmp/x'",
    "",
    "delete from app",
    "selct",
]


@pytest.mark.parametrize("text", STATEMENTS)
def test_only_selects(text: str) -> None:
    """Nothing but one SELECT is run."""
    with pytest.raises(BadQuery):
        tables(text)


def test_what_a_query_names() -> None:
    """Tables of a query are found wherever they stand in it; its own are none."""
    assert tables('with c as (from "a-b") select (select 1 from D) from c join e.f on true') == {"a-b", "D", "f"}
    assert tables("select * from (pivot v on k in (1, 2) using count(*)) where exists (from w)") == {"v", "w"}
    assert tables("select 1") == set()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "overwritten": lambda content: b"\0" * len(content),
    "first page": lambda content: content[:4] + b"\xff" * 40 + content[44:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_parquet(tmp_path: Path, damage: str) -> None:
    """A damaged object is named; the others are read where that is wanted."""
    configured = folder(tmp_path)
    whole = lake.parquet(ROWS, use_dictionary=False)
    paths = put(tmp_path, configured, whole, whole, whole, extension=".parquet")
    paths[1].write_bytes(DAMAGE[damage](whole))
    query = "select sum(id) * 0 + count(id), max(text), max(big) from app"
    with pytest.raises(DamagedObjects) as told:
        asked(tmp_path, query, place(configured, "app"))
    assert list(told.value.found) == [str(paths[1])]
    with opened(tmp_path, place(configured, "app"), skip_damaged=True) as views:
        assert views.ask(query, 1).rows[0][0] == 10_000
        assert list(views.skipped) == [str(paths[1])]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy", "zip", "hadoop_snappy"])
def test_damaged_json(tmp_path: Path, compression: str) -> None:
    """An object whose compression breaks off is named with the reason; the others are read where that is wanted."""
    configured = folder(tmp_path, compression=compression)
    lines = [b'{"n":%d,"x":"%032x"}\n' % (n, n * 0x9E3779B97F4A7C15) for n in range(20_000)]
    whole = packed(lines, compression)
    paths = put(tmp_path, configured, whole, whole[: len(whole) // 2], whole)
    with pytest.raises(DamagedObjects) as told:
        asked(tmp_path, "select count(*) from app", place(configured, "app"))
    assert list(told.value.found) == [str(paths[1])]
    assert f"its {compression} ends early" in told.value.found[str(paths[1])]
    with opened(tmp_path, place(configured, "app"), skip_damaged=True) as views:
        assert views.ask("select count(*) from app", 1).rows == [(40_000,)]
        assert list(views.skipped) == [str(paths[1])]


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    """The object is named; where damage is skipped, such lines alone are left out, and counted."""
    configured = folder(tmp_path, format={"type": "json_lines"})
    paths = put(tmp_path, configured, LINES[0], LINES[0] + b"plain text\n" + LINES[1])
    with pytest.raises(DamagedObjects) as told:
        asked(tmp_path, "select count(*) from app", place(configured, "app"))
    assert told.value.found == {str(paths[1]): "a record in it is no JSON: unexpected character"}
    with opened(tmp_path, place(configured, "app"), skip_damaged=True) as views:
        assert views.ask("select count(*) from app", 1).rows == [(3,)]
        assert (views.bad_lines, views.skipped) == (1, {})


def test_nothing_but_damage(tmp_path: Path) -> None:
    """A stream of which no object can be read says so."""
    configured = folder(tmp_path)
    put(tmp_path, configured, b"PAR1", b"PAR1", extension=".parquet")
    with pytest.raises(BadQuery, match="no object of app can be read"):
        asked(tmp_path, "select count(*) from app", place(configured, "app"), skip_damaged=True)


def test_a_wrong_query_is_no_damage(tmp_path: Path) -> None:
    """What a query does wrong is told with its place, and blamed on no object."""
    configured = folder(tmp_path)
    put(tmp_path, configured, *LINES)
    for text, said in {
        "select nope from app": 'column "nope" not found .* line 1, column 8',
        "select strptime(status::varchar, '%Y-%m') from app": "format specifier",
        "select error('mine') from app": "mine",
        "select cast('x' as int) from app": "Could not convert",
    }.items():
        with pytest.raises(BadQuery, match=said):
            asked(tmp_path, text, place(configured, "app"))


@pytest.mark.parametrize("extension", ["", ".parquet"])
def test_a_store_that_fails(tmp_path: Path, server: S3Server, extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the store that is told of, and no object is taken for damaged, even where damage is skipped."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))  # between attempts
    bucket = server.new_bucket()
    configured = parsed(app={"type": "s3", "bucket": bucket, "endpoint_url": server.url, **KEYS})
    content = lake.parquet([{"status": 1}]) if extension else LINES[0]
    client = server.client()
    client.put_object(Bucket=bucket, Key=name(configured, "app", extension=extension), Body=content)
    client.close()
    with at(configured) as there:
        objects, _ = there.objects()
        server.script.extend(itertools.repeat(("get", Answer(503, "SlowDown")), 40))
        try:
            with opened(tmp_path, skip_damaged=True) as views:
                views.add(there, objects, ["app"])
                with pytest.raises(Unreadable, match="SlowDown"):
                    views.ask("select * from app", 1)
        finally:
            server.script.clear()


def test_an_object_that_is_gone(tmp_path: Path) -> None:
    """An object that was taken away since it was listed is named, and left out where that is wanted."""
    configured = folder(tmp_path)
    paths = put(tmp_path, configured, *LINES)
    there = place(configured, "app")
    for skip in (False, True):
        write(paths[0], LINES[0])
        with opened(tmp_path, there, skip_damaged=skip) as views:
            paths[0].unlink()
            if not skip:
                with pytest.raises(DamagedObjects, match="is gone"):
                    views.ask("select * from app", 1)
            else:
                assert views.ask("select status from app", 9).rows == [(404,)]


def test_more_than_memory(tmp_path: Path) -> None:
    """What does not fit into memory goes to the temporary folder; what cannot go there fails, and nothing else."""
    sort = "select md5(i::varchar) h from range({}) t(i) order by h offset {} - 1"
    assert asked(tmp_path, sort.format(1_000_000, 1_000_000), memory_mib=64).rows[0][0].startswith("ffff")
    with pytest.raises(BadQuery, match="failed to allocate"):
        asked(tmp_path, "select string_agg(md5(i::varchar), '') from range(5_000_000) t(i)", memory_mib=64)
