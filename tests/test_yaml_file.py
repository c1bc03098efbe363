"""YAML with lines, references and problems."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose import yaml_file, yaml_text
from firehose.yaml_file import ConfigError, YamlFile


def read(text: str) -> YamlFile:
    return yaml_text.parse("f.yaml", text)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text).check()
    return [str(problem) for problem in caught.value.problems]


def substituted(text: str, **variables: str) -> Any:
    file = read(text)
    data = yaml_file.substitute(file, variables.get)
    file.check()
    return data


def test_lines() -> None:
    """Every value knows its line, in blocks and in flow; one that is not there has its nearest parent's."""
    file = read("a:\n  b:\n    - 1\n    - {c: 2}\n")
    assert [file.line(path) for path in (("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c"))] == [1, 2, 3, 4]
    assert file.line(("a", "b", 1, "none", "such")) == 4


def test_problems_are_sorted_and_told_once() -> None:
    """Problems come in the order of the file, each once, under the file's name."""
    file = read("a: 1\nb: 2\n")
    for path in ("b", "a", "b"):
        file.complain((path,), "is wrong")
    with pytest.raises(ConfigError) as caught:
        file.check()
    assert str(caught.value) == "f.yaml: 2 problems\n  line 1: a: is wrong\n  line 2: b: is wrong"


def test_duplicate_keys() -> None:
    """A key given twice is told with the line of the second, at every depth."""
    assert problems("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        "line 2: b.c: this key is given twice; keep one",
        "line 3: a: this key is given twice; keep one",
    ]


MERGED = """\
base: &base {type: folder, path: out}
one: {<<: *base, path: one}
two: &two
  <<: *base
  prefix: p
three: {<<: [*two, {path: late, extra: 1}]}
again: *two
"""


def test_merge_keys() -> None:
    """Merged keys are no duplicates: a block's own go first, then those of the first merged, wherever it is used."""
    data = read(MERGED).data
    assert not read(MERGED).problems
    assert data["one"] == {"type": "folder", "path": "one"}
    assert data["two"] == data["again"] == {"type": "folder", "path": "out", "prefix": "p"}
    assert data["three"] == {"type": "folder", "path": "out", "prefix": "p", "extra": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\tx",
        "a: !unknown 1",
        "a: !!python/name:os.system x",
        "a: 2026-13-45",
        "a: !!int many",
        "a: !!timestamp never",
        "a: !!bool perhaps",
        "&a [*a]",
        "&a {b: *a}",
        "&a {<<: *a}\n---\nb",
        "[" * 5000,
        "? [1, 2]\n: x",
        "? {a: 1}\n: x",
        "a: *none",
        "a: \x01",
        "--- a\n--- b",
        "<<: 5",
        "a: =",
    ],
)
def test_no_good(text: str) -> None:
    """What cannot be read is a problem of the file, never a crash."""
    assert problems(text)


def test_escapes_of_half_characters() -> None:
    """Two escapes that JSON writes one character as are that character, in values and keys; one alone is refused."""
    assert read(r'{"a\ud83d\ude00": "\ud800\udc00b"}').data == {"a\U0001f600": "\U00010000b"}
    assert problems(r'a: "x\ud800"') == ["line 1: a: holds half of a character; write the character itself"]
    assert problems(r'b: {"\udc00": 1}') == ["line 1: b: a key must be plain text"]


def test_anchors_of_anchors() -> None:
    """A file that unfolds to more than anybody writes is refused before it fills the memory."""
    text = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
    text += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "anchors" in problems(text)[0]


def test_bare_reference() -> None:
    """YAML's complaint of a bare reference in a flow mapping leads to the quotes that it needs."""
    with pytest.raises(ConfigError, match=r"line 2: not valid YAML: .*put quotes around"):
        read("a: 1\nb: {path: ${HOME}}\n")
    with pytest.raises(ConfigError, match=r"got '<stream end>'$"):
        read("b: {path: x")


def test_references() -> None:
    """Variables, defaults (for what is unset or empty), files and the escape, alone and within text."""
    text = "a: x${A}y${A}\nb: ['${B:-none}', '${E:-none}', '${E}']\nc: ${file:/s}\nd: $${A}\ne: '$A {A} $'\n"
    assert substituted(text, **{"A": "1", "E": "", "file:/s": "secret"}) == {
        "a": "x1y1",
        "b": ["none", "none", ""],
        "c": "secret",
        "d": "${A}",
        "e": "$A {A} $",
    }


def test_references_are_values() -> None:
    """What a variable holds is text: it cannot add keys, nor references of its own."""
    assert substituted("a: ${A}", A="{b: ${C}}") == {"a": "{b: ${C}}"}


def test_unset() -> None:
    """Each reference without a value is told with its place and what would help."""
    file = read("a: ${A}\nb: [1, '${file:/s:-d}']\nc: ${}\n")
    yaml_file.substitute(file, dict[str, str]().get)
    assert [str(problem) for problem in sorted(file.problems)] == [
        "line 1: a: A is not set; set it, or write a default: ${A:-value}",
        "line 2: b[1]: the file /s:-d is missing, or no text that the service's user may read",
        "line 3: c: a reference names nothing; write ${NAME}, or $${ where ${ itself is meant",
    ]


def test_nested_default() -> None:
    """A default that holds a reference is told of, not taken for text."""
    file = read("a: ${A:-${B}}\n")
    yaml_file.substitute(file, {"B": "x"}.get)
    assert [str(problem) for problem in file.problems] == [
        "line 1: a: the default of A holds a reference; a default is plain text"
    ]


def test_shown() -> None:
    """A message shows a value as it was written, and none whose key or URL speaks of a secret."""
    file = read("a: ${A}\npassword: x\nlist: [1]\nauth: {api_keys: [x]}\nurl: http://me:x@host\n")
    paths = (("a",), ("password",), ("list",), ("auth", "api_keys", 0), ("url",), ("z",))
    assert [yaml_file.shown(file, path) for path in paths] == [" (is '${A}')", "", "", "", "", ""]


@pytest.mark.parametrize(("word", "hint"), [("bukket", "did you mean 'bucket'?"), ("xyz", "choose from bucket, path")])
def test_nearest(word: str, hint: str) -> None:
    """A misspelt word is led to the nearest, another to all there are."""
    assert yaml_file.nearest(word, ["path", "bucket"]) == hint


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*<!?|>'\"#%@` \n\t0.$,=~"), max_size=40))
def test_no_crash_on_any_text(text: str) -> None:
    """Any text is read, or told to be no YAML."""
    try:
        file = read(text)
        yaml_file.substitute(file, dict[str, str]().get)
    except ConfigError:
        pass  # anything else would be a crash
