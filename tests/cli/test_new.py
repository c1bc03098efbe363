"""`firehose new transform`: what it writes works as it stands, is clean, and never replaces what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli.running import failing, firehose, good

STYLES = ("record", "lambda", "batch")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_works(style: str, tmp_path: Path) -> None:
    """Each style's cases pass as written, and three files are all there is afterwards."""
    good("new", "transform", "my_logs", "--style", style)
    names = sorted(path.name for path in (tmp_path / "hooks").iterdir())
    assert names == ["my_logs.py", "my_logs.tests.yaml", "my_logs.yaml"]
    assert good("test", "-c", "hooks/my_logs.yaml").count("ok ") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["hooks"]


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_is_what_it_tests(style: str, tmp_path: Path) -> None:
    """The cases fail as soon as the function does something else."""
    good("new", "transform", "my_logs", "--style", style)
    file = tmp_path / "hooks/my_logs.py"
    file.write_text(file.read_text().replace("/health", "/other"))
    assert firehose("test", "-c", "hooks/my_logs.yaml").exit_code == 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("command", ["check --select E,F,W,I,UP,B,C4,SIM,RET,PERF,RUF", "format --check"])
def test_what_is_written_is_clean(style: str, command: str) -> None:
    """A linter finds nothing to complain of, and a formatter nothing to do."""
    good("new", "transform", "my_logs", "--style", style)
    words = [sys.executable, "-m", "ruff", *command.split(), "--isolated", "--no-cache", "hooks"]
    done = subprocess.run(words, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def test_what_is_written_has_types() -> None:
    """Every function says what it takes and gives."""
    for style in STYLES:
        good("new", "transform", f"my_{style}", "--style", style)
        definitions = [
            line for line in Path(f"hooks/my_{style}.py").read_text().splitlines() if line.startswith("def ")
        ]
        assert definitions
        assert all("->" in line and ": " in line for line in definitions)


@pytest.mark.parametrize("folder", ["hooks", "a folder/with 'quotes'", "deep/er"])
def test_the_block_is_printed(folder: str, tmp_path: Path) -> None:
    """What is on standard output is a list of transforms, to be pasted; it is what the configuration holds."""
    (block,) = yaml.safe_load(good("new", "transform", "my_logs", "--path", folder))
    assert block == {"type": "python", "handler": "my_logs:clean", "path": folder}
    written = yaml.safe_load((tmp_path / folder / "my_logs.yaml").read_text())
    assert written["delivery_streams"]["my_logs"]["transforms"] == [block]
    good("test", "-c", f"{folder}/my_logs.yaml")


@pytest.mark.parametrize("name", ["my_logs.py", "my_logs.yaml", "my_logs.tests.yaml"])
def test_nothing_is_replaced(name: str, tmp_path: Path) -> None:
    """Where one of the files is there already, none is written."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / name).write_text("mine")
    assert f"hooks/{name} exists already" in failing("new", "transform", "my_logs")
    assert [path.read_text() for path in (tmp_path / "hooks").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["a-b", "1st", "class", "a b", "", "naïve", "a.b", "../up"])
def test_names_that_are_no_module(name: str, tmp_path: Path) -> None:
    """A name that cannot be imported is a mistake of usage, and nothing is written."""
    assert "can be no module's name" in " ".join(failing("new", "transform", name, status=2).split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "logging", "pyarrow", "firehose", "test"])
def test_names_that_are_taken(name: str) -> None:
    """A module that Python would find elsewhere is told before it confuses anybody."""
    assert f"has a module '{name}' already" in " ".join(failing("new", "transform", name, status=2).split())


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that cannot be made is told in words."""
    (tmp_path / "file").touch()
    assert "cannot be written" in failing("new", "transform", "my_logs", "--path", "file/hooks")
