"""Columns out of Hive's CREATE TABLE."""

from __future__ import annotations

import pytest

from firehose.schemas import ddl

ATHENA = """
-- the web's requests
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`access_log` (
  `time` timestamp COMMENT 'when it came; with ) and , inside',
  status int COMMENT "isn't it",  -- the answer's
  request STRUCT<`method`:string COMMENT 'GET, ...', path:STRING, headers:map<string,array<string>>>,
  price decimal( 12 , 2 ) NOT NULL,
  name varchar(8) DEFAULT 'a,b' /* of
  two lines */,
  ratio double precision,
  PRIMARY KEY (`time`, status) DISABLE NOVALIDATE
)
COMMENT 'all of them'
PARTITIONED BY (dt string, `hour` int)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
WITH SERDEPROPERTIES ('ignore.malformed.json'='true')
STORED AS PARQUET
LOCATION 's3://lake/access_log/'
TBLPROPERTIES ("parquet.compression"="SNAPPY");
"""


def test_a_statement_as_people_keep_it() -> None:
    """Columns come in their order, whatever else the statement says; those it is partitioned by are not among them."""
    assert ddl.parse(ATHENA).types() == {
        "time": "timestamp",
        "status": "int",
        "request": "struct<method:string,path:string,headers:map<string,array<string>>>",
        "price": "decimal(12,2)",
        "name": "varchar(8)",
        "ratio": "double",
    }


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("create table t (a INT)", {"a": "int"}),
        ("Create External Table `a.b` (A BigInt,b date) ;", {"A": "bigint", "b": "date"}),
        ("CREATE TABLE c.d.e(`a``b` int, `comment` string)", {"a`b": "int", "comment": "string"}),
        ("USE lake; CREATE TABLE t (a binary) STORED AS ORC; SHOW TABLES;", {"a": "binary"}),
        ("CREATE TABLE t (a string COMMENT 'it''s', b int COMMENT 'a\\'b')", {"a": "string", "b": "int"}),
        ("CREATE TABLE t (default_value int, note string, comments array<string>)", None),
    ],
)
def test_other_ways_to_write_it(text: str, types: dict[str, str] | None) -> None:
    """Case, quotes, databases and statements around it do not matter."""
    assert ddl.parse(text).types() == (types or {"default_value": "int", "note": "string", "comments": "array<string>"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no CREATE TABLE"),
        ("CREATE VIEW v AS SELECT 1", "no CREATE TABLE"),
        ("CREATE TABLE t LIKE other", "line 1, at 'LIKE': the table t has no list of columns"),
        ("CREATE TABLE t (a int);\nCREATE TABLE u (b int)", "line 2: creates a second table"),
        ("CREATE TABLE t (\n a int,\n b text\n)", "line 3: column 'b': invalid type 'text'"),
        ("CREATE TABLE t (a set< int >)", "column 'a': invalid type 'set<int>'"),
        ("CREATE TABLE t (a uniontype<int,string>)", "column 'a': invalid type"),
        ("CREATE TABLE t (a int b string)", "column 'a': invalid type 'int b string'"),
        ("CREATE TABLE t (a int,\n b)", "line 2: column 'b': invalid type ''"),
        ("CREATE TABLE t (a int", "behind column 'a'"),
        ("CREATE TABLE t (a int,", "a column's name is missing"),
        ("CREATE TABLE t (a int COMMENT 5)", "the comment's text"),
        ("CREATE TABLE t (a int 'x')", "a type, a comment or a constraint"),
        ("CREATE TABLE t (a int COMMENT 'x)", 'line 1: "\'x)" is not closed'),
        ("CREATE TABLE t (a int, A string)", "two columns 'a' and 'A'"),
        ("CREATE TABLE t ()", "a column's name is missing"),
        ("CREATE TABLE", "the table's name is missing"),
    ],
)
def test_refused(text: str, says: str) -> None:
    """What is no table of ours is refused, with its line and its column."""
    with pytest.raises(ValueError) as refused:
        ddl.parse(text)
    assert says in str(refused.value)
