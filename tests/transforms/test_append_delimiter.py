"""Each record ends with the delimiter, once."""

from __future__ import annotations

import pytest
from batches import rows
from put_to_work import made_of, working

from firehose import config
from firehose.yaml_file import ConfigError
from transforms.append_delimiter import AppendDelimiter


def test_a_missing_newline_is_appended() -> None:
    """Each record that does not end with a newline gets one, the last and an empty one too; others stay."""
    assert made_of(working(AppendDelimiter), b"a", b"b\n", b"", b"\n", b"c") == [b"a\n", b"b\n", b"\n", b"\n", b"c\n"]


def test_any_text_is_a_delimiter() -> None:
    """Only the whole of it counts as being there."""
    assert made_of(working(AppendDelimiter, delimiter="\r\n"), b"a\n", b"b\r\n") == [b"a\n\r\n", b"b\r\n"]


def test_listed_twice_it_appends_once() -> None:
    """The second finds nothing missing."""
    once = working(AppendDelimiter)(rows([b"a"])).rows
    assert working(AppendDelimiter)(once).rows.equals(once)


def test_it_runs_last() -> None:
    """Wherever in the list it stands."""
    stream = config.stream("app", definition({"type": "append_delimiter"}, {"type": "decompress"}))
    assert [block.type for block in stream.transforms] == ["decompress", "append_delimiter"]


@pytest.mark.parametrize(
    ("delimiter", "says"),
    [
        ("none", "delimiter: none appends nothing; leave the transform out, or give newline or any text"),
        ("", "delimiter: string should have at least 1 character"),
        ("x" * 257, "delimiter: string should have at most 256 characters"),
    ],
)
def test_what_is_no_delimiter_is_refused(delimiter: str, says: str) -> None:
    """With the key and the way out."""
    with pytest.raises(ConfigError) as refused:
        config.stream("app", definition({"type": "append_delimiter", "delimiter": delimiter}))
    assert says in str(refused.value)


def definition(*transforms: dict[str, str]) -> dict[str, object]:
    return {"transforms": list(transforms), "destination": {"type": "folder", "path": "out"}}
