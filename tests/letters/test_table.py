"""SQL over letters sees what they say, all of it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from firehose.letters.letter import Letter
from firehose.letters.table import BATCH_BYTES, LONGEST, MEMORY_MIB, BadSql, Condition, Database, batches

LETTER = Letter("o", 1, "app", "processing-failed", "E.One", "said", 4, 1_772_366_400_123, None, "f", b"\xff\x00", None)
MANY = [replace(LETTER, line=number, code=f"E.{number % 3}", data=b"x" * number) for number in range(10)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(str(tmp_path / "letters.duckdb"))
    yield made
    made.close()


def chosen(condition: str, letters: list[Letter] = MANY) -> list[int]:
    asked = Condition(condition)
    try:
        return [letter.line for letter in asked.chosen(letters)]
    finally:
        asked.close()


def test_columns(database: Database) -> None:
    """Every part of a letter has its column; times are UTC."""
    database.add([LETTER, replace(LETTER, details='{"esIndexName":"logs"}')])
    answer = database.ask("select * exclude (details), details->>'esIndexName' as name from letters;", 9)
    assert answer.columns[:5] == ["object", "line", "stream", "error_type", "reason"]
    arrived = datetime(2026, 3, 1, 12, 0, 0, 123_000)
    whole = ("o", 1, "app", "processing-failed", "E.One", "said", 4, arrived, None, "f", b"\xff\x00", 2)
    assert answer.rows == [(*whole, None), (*whole, "logs")]


def test_grouping(database: Database) -> None:
    """Letters may be counted and joined with themselves, whatever batches they came in."""
    for few in (MANY[:4], MANY[4:]):
        database.add(few)
    assert database.ask("select reason, count(*) from letters group by 1 order by 1", 9).rows == [
        ("E.0", 4),
        ("E.1", 3),
        ("E.2", 3),
    ]
    twice = database.ask("select count(*) from letters a join letters b using (line)", 9)
    assert (twice.rows, twice.cut) == ([(10,)], False)


def test_limit(database: Database) -> None:
    """Rows beyond the limit are cut, and that is told."""
    database.add(MANY)
    answer = database.ask("select line from letters order by line", 3)
    assert (answer.rows, answer.cut) == ([(0,), (1,), (2,)], True)
    assert not database.ask("select line from letters", 10).cut


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select reson from letters", "reson"),
        ("selec", "syntax error"),
        ("select 1; select 2", "2 statements"),
        ("", "0 statements"),
        ("select * from read_csv('/etc/passwd')", "disabled"),
        ("select * from '/etc/passwd'", "disabled|does not exist"),
        ("copy letters to 'out.csv'", "disabled"),
        ("attach 'other.db'", "disabled"),
        ("set memory_limit = '100GB'", "locked"),
        ("set enable_external_access = true", "locked|Cannot"),
        ("select message::int from letters", "Could not convert"),
    ],
)
def test_bad_sql(database: Database, sql: str, said: str) -> None:
    """What cannot be run, or would reach beyond the letters, is refused in words, and the next query runs."""
    database.add(MANY)
    with pytest.raises(BadSql, match=said):
        database.ask(sql, 9)
    assert database.ask("select count(*) from letters", 9).rows == [(10,)]


def test_conditions() -> None:
    """A condition chooses letters one by one, in their order."""
    assert chosen("reason = 'E.1' -- only these") == [1, 4, 7]
    assert chosen("size_bytes > 7 or line = 0") == [0, 8, 9]
    assert chosen("letters.reason = 'E.9'") == []
    assert chosen("attempts = 4 and arrived_at < '2026-03-02' and ended_at is null", [LETTER]) == [1]
    assert chosen("null") == []


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("reson = 1", "reson"),
        ("", "BOOLEAN"),
        ("line in (select line from letters)", "letters does not exist"),
        ("line = (select count(*) from '/etc/passwd')", "disabled|does not exist"),
        ("count(*) > 1", "aggregate"),
        ("message::int = 1", "Could not convert"),
    ],
)
def test_bad_conditions(sql: str, said: str) -> None:
    """What is no condition on one letter is refused; what looks at all letters would see but a few."""
    with pytest.raises(BadSql, match=said):
        chosen(sql)


def test_a_condition_that_leaves_its_place() -> None:
    """Whatever it adds, only letters come of it, each once."""
    assert chosen("line = 1) union all (select 1 union all select 99") == [1]


def test_batches() -> None:
    """They are bounded in number and in bytes, and hold every letter once, in order."""
    small = [replace(LETTER, line=number) for number in range(3000)]
    large = [replace(LETTER, line=number, data=bytes(BATCH_BYTES // 2)) for number in range(5)]
    assert [len(few) for few in batches(small)] == [1024, 1024, 952]
    assert [len(few) for few in batches(large)] == [2, 2, 1]
    assert [one for few in batches(small) for one in few] == small
    assert list(batches([])) == []


MORE_THAN_MEMORY = """
import resource, sys
from firehose.letters.letter import Letter
from firehose.letters.table import LONGEST, Database

def letter(n):
    data = n.to_bytes(2, "big") + bytes(LONGEST)
    return Letter("o", n, "app", "processing-failed", "E.One", "said", 4, 1_772_366_400_123, None, "f", data, None)

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

database = Database(sys.argv[1])
database.ask("select count(*) from letters", 1)  # with what DuckDB imports when it is first asked
before = most()
for batch in range(40):
    database.add([letter(n) for n in range(batch, 40_000, 40)])
(sums,) = database.ask("select sum(octet_length(data)), sum(size_bytes) from letters", 1).rows
(last,) = database.ask("select line from letters order by message, line desc", 1).rows
database.close()
print(*sums, *last, most() - before)
"""


def test_more_than_memory(tmp_path: Path) -> None:
    """Letters of more than the memory that the database may have are counted and sorted, in a process of their own: in
    this one the most that it ever had may be other tests'. Without a bound it would take 750 MiB.
    """
    program = tmp_path / "program.py"  # with `-c` DuckDB takes it for a session, and prints its progress
    program.write_text(MORE_THAN_MEMORY)
    command = [sys.executable, str(program), str(tmp_path / "letters.duckdb")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *answers, took_kib = map(int, said.split())
    assert answers == [40_000 * LONGEST, 40_000 * (LONGEST + 2), 39_999]
    assert took_kib < 2 * MEMORY_MIB << 10


def test_long_values(database: Database) -> None:
    """Of what is long a whole query sees the beginning; a condition sees all."""
    long = replace(LETTER, message="ä" * (LONGEST + 1), data=bytes(20 << 20))
    database.add([long, LETTER])
    assert database.ask("select length(message), octet_length(data), size_bytes from letters", 9).rows == [
        (LONGEST, LONGEST, 20 << 20),
        (4, 2, 2),
    ]
    assert chosen(f"length(message) > {LONGEST} and octet_length(data) > {19 << 20}", [long, LETTER]) == [1]
