"""`firehose schema`: versions are shown as they are, compared, and pinned without a service or beside one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.running import failing, firehose, good

from firehose import yaml_text
from firehose.buffer.disk import LocalDisk
from firehose.schemas import ddl, versions
from firehose.schemas.versions import Versions
from firehose.table_schema import TableSchema

FIRST = {"id": "bigint", "a b": "struct<x:array<timestamp>>"}
SECOND = {"id": "bigint", "a b": "struct<x:array<timestamp>,`y z`:string>", "Ü`": "double"}


@dataclass(frozen=True, slots=True)
class House:
    """A configuration of a stream `app` with destinations `one` and `two`, and a data folder without a service."""

    path: Path

    def versions(self, destination: str = "one") -> Versions:
        return Versions(LocalDisk(), versions.folder(str(self.path / "data"), "app", destination))

    def add(self, *schemas: dict[str, str], destination: str = "one") -> None:
        note = {
            "stream": "app",
            "destination": destination,
            "rescued": "_rescued",
            "since": "2026-03-01T12:00:07+00:00",
        }
        for types in schemas:
            self.versions(destination).add(TableSchema.parsed(types), note)

    def command(self, *words: str) -> tuple[str, ...]:
        return ("schema", *words, "-c", str(self.path / "firehose.yaml"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    blocks = [
        "{type: s3, name: one, bucket: lake, prefix: 'app/dt=!{timestamp:yyyy}/'}",
        f"{{type: folder, name: two, path: {tmp_path}/two}}",
    ]
    service = f"{{data_dir: {tmp_path}/data, listen: '127.0.0.1:1'}}"
    streams = f"{{app: {{destinations: [{', '.join(blocks)}]}}}}"
    (tmp_path / "firehose.yaml").write_text(f"service: {service}\ndelivery_streams: {streams}")
    return House(tmp_path)


def test_show(house: House) -> None:
    """The newest version is shown, column by column, with the one that is always there; an older one on request."""
    house.add(FIRST, SECOND)
    result = firehose(*house.command("show", "app"))
    lines = [line.split(None, 1) for line in result.stdout.splitlines()]
    assert ["id", "bigint"] in [[cell.strip() for cell in line] for line in lines]
    assert "_rescued" in result.stdout
    assert "Ü`" in result.stdout
    assert "app at one: version 2 of 2, since 2026-03-01T12:00:07+00:00" in result.stderr
    assert "Ü`" not in good(*house.command("show", "app", "--version", "1"))


def test_show_json(house: House) -> None:
    """For programs: all of it, columns in their order."""
    house.add(FIRST, SECOND)
    house.versions().pin(1)
    said = json.loads(good(*house.command("show", "app", "--json")))
    assert said == {
        "stream": "app",
        "destination": "one",
        "version": 2,
        "newest": 2,
        "pinned": 1,
        "since": "2026-03-01T12:00:07+00:00",
        "columns": {**SECOND, "_rescued": "string"},
    }
    assert list(said["columns"])[-1] == "_rescued"


def test_show_yaml(house: House) -> None:
    """Columns for the configuration, which takes them as they stand."""
    house.add(SECOND)
    text = good(*house.command("show", "app", "--yaml"))
    assert text.splitlines()[:2] == ["columns:", '  "id": "bigint"']
    assert "_rescued" not in text
    assert yaml_text.parse("x", text).data == {"columns": SECOND}


def test_show_ddl(house: House) -> None:
    """A statement that makes a table over the objects, which a reader of such statements understands."""
    house.add(SECOND)
    text = good(*house.command("show", "app", "--ddl"))
    assert text.startswith("CREATE EXTERNAL TABLE `app` (\n  `id` bigint,\n")
    assert text.endswith(")\nSTORED AS PARQUET\nLOCATION 's3://lake/app/';\n")
    assert ddl.parse(text).types() == {**SECOND, "_rescued": "string"}
    house.add(FIRST, destination="two")
    other = good(*house.command("show", "app", "--ddl", "--destination", "two"))
    assert f"LOCATION '{house.path}/two/';" in other


def test_show_ddl_of_partitions(house: House) -> None:
    """Columns that stand in folders are the table's partitions, and none of its others: no file has them."""
    file = house.path / "firehose.yaml"
    file.write_text(file.read_text().replace("{app: {", "{app: {dynamic_partitioning: {columns: [ID, day(t.at)]}, "))
    house.add(SECOND)
    text = good(*house.command("show", "app", "--ddl"))
    assert ")\nPARTITIONED BY (\n  `ID` string,\n  `t_at_day` string\n)\nSTORED AS PARQUET\n" in text
    assert ddl.parse(text).types() == {**{name: SECOND[name] for name in list(SECOND)[1:]}, "_rescued": "string"}


def test_diff(house: House) -> None:
    """What the newest version brought; what came since a version; what one has and another has not."""
    house.add(FIRST, SECOND, {**SECOND, "d": "date"})
    assert good(*house.command("diff", "app")) == "+ d date\n"
    since = good(*house.command("diff", "app", "1"))
    assert since.splitlines()[-1] == "+ d date"
    assert len(since.splitlines()) == 3
    assert good(*house.command("diff", "app", "3", "2")) == "- d date\n"
    assert good(*house.command("diff", "app", "0", "1")).splitlines()[0] == "+ id bigint"
    assert good(*house.command("diff", "app", "2", "2")) == ""


def test_pin(house: House) -> None:
    """A version is pinned, the newest by default, and unpinned again."""
    house.add(FIRST, SECOND)
    assert good(*house.command("pin", "app")) == "app at one stays with version 2 of its schema\n"
    assert house.versions().pinned() == 2
    good(*house.command("pin", "app", "--version", "1"))
    assert house.versions().pinned() == 1
    assert "pinned to version 1" in firehose(*house.command("show", "app")).stderr
    assert good(*house.command("pin", "app", "--unpin")) == "app at one follows the newest version, which may grow\n"
    assert house.versions().pinned() is None


def test_destinations(house: House) -> None:
    """Where several destinations have a schema, one is to be chosen; where one has, it is that one."""
    house.add(FIRST, destination="two")
    assert json.loads(good(*house.command("show", "app", "--json")))["destination"] == "two"
    house.add(SECOND)
    assert "one, two: choose one" in failing(*house.command("show", "app"), status=2)
    said = json.loads(good(*house.command("show", "app", "--json", "--destination", "one")))
    assert said["columns"].keys() == {*SECOND, "_rescued"}
    assert "it has one at one, two" in failing(*house.command("show", "app", "--destination", "three"))


@pytest.mark.parametrize("command", ["show", "diff", "pin"])
def test_nothing_there(house: House, command: str) -> None:
    """A stream without versions is told so, and where a schema would come from."""
    for stream in ("app", "other"):
        assert "schema: infer" in failing(*house.command(command, stream))


def test_mistakes(house: House) -> None:
    """A version that is not there is named with those that are; options that exclude each other are a mistake."""
    house.add(FIRST)
    for words in (("show", "app", "--version", "7"), ("pin", "app", "--version", "7"), ("diff", "app", "7")):
        assert "no version 7 of its schema; there is 1" in failing(*house.command(*words))
    failing(*house.command("show", "app", "--yaml", "--ddl"), status=2)
    failing(*house.command("pin", "app", "--version", "1", "--unpin"), status=2)
    failing("schema", "show", "app", status=2)


def test_verify(house: House) -> None:
    """`buffer verify` reads these files, too."""
    house.add(FIRST, SECOND)
    LocalDisk().make_folder(str(house.path / "data"))
    read = json.loads(good("buffer", "verify", "-c", str(house.path / "firehose.yaml"), "--json"))
    assert [Path(file["path"]).name for file in read if "schemas" in file["path"]] == ["v000001.json", "v000002.json"]


def test_damage(house: House) -> None:
    """A damaged file is named with the way out, and a damaged pin can be replaced."""
    house.add(FIRST)
    folder = house.path / "data/schemas/app/one"
    (folder / "pinned").write_bytes(b"?")
    assert "pinned is damaged" in failing(*house.command("show", "app"))
    good(*house.command("pin", "app"))
    (folder / "v000001.json").write_bytes(b"?")
    assert "v000001.json is damaged" in failing(*house.command("show", "app"))
    assert "lies beside the data" in failing(*house.command("pin", "app"))
    assert "v000001.json" in firehose("buffer", "verify", "-c", str(house.path / "firehose.yaml")).stdout
