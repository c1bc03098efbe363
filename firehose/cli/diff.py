"""How a case ended, for people. Where two records part they stand one above the other, with their blanks visible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from firehose.cli.cases import Case

if TYPE_CHECKING:
    from firehose.cli.differences import Difference
    from firehose.cli.proving import Result

SHOWN = 20  # differences of one case that are printed
BEFORE = 30  # characters shown before the first difference
CUT = "…"
SIGNS = {**{code: chr(0x2400 + code) for code in range(32)}, 0x7F: "␡", 0x0A: "⏎", 0x09: "→"}
END_BLANKS = re.compile(r"^ +| +(?=[\r\n]*\Z)")
LABELS = ("expected", "came out")
LABEL_WIDTH = 10


def told(result: Result, width: int) -> list[Text]:
    """How a case ended, for people."""
    verdict = ("ok      ", "green") if result.ok else ("FAILED  ", "bold red")
    lines = [Text.assemble(verdict, f"{result.case.stream}: {result.case.name}", (f"  {result.seconds:.1f} s", "dim"))]
    if result.broken:
        lines.append(Text(f"  {result.broken}"))
    for one in result.differences[:SHOWN]:
        lines.append(Text(f"  {_heading(one)}", "bold"))
        lines += [Text("    ") + line for line in _shown(one, result.case, width)]
    if len(result.differences) > SHOWN:
        lines.append(Text(f"  and {len(result.differences) - SHOWN} more differences"))
    if result.log and not result.ok:
        lines += [Text("  its hooks said", "bold"), *(Text(f"    {line}") for line in result.log)]
    return lines


def _heading(one: Difference) -> str:
    return one.place if one.record is None else f"{one.place}, of record {one.record}"


def _shown(one: Difference, case: Case, width: int) -> list[Text]:
    lines = list(compared(one.expected, one.came, width))
    if one.record is None or one.record >= len(case.given):
        return lines
    given = cut(visible(case.given[one.record].record), 0, width)
    return [Text.assemble("given     ", (given, "dim")), *lines]


def visible(record: bytes) -> str:
    """A record in one line: control characters as signs, blanks at its ends as dots, what is no UTF-8 as escapes."""
    text = record.decode("utf-8", "backslashreplace")
    return END_BLANKS.sub(lambda blanks: "·" * len(blanks[0]), text).translate(SIGNS)


def compared(expected: bytes | None, came: bytes | None, width: int) -> Iterator[Text]:
    """The lines that show both. None is nothing at all."""
    if expected is None or came is None:
        for label, record, style in zip(LABELS, (expected, came), ("green", "red"), strict=True):
            yield _line(label, "nothing" if record is None else cut(visible(record), 0, width), style)
        return
    texts = visible(expected), visible(came)
    if texts[0] == texts[1]:
        texts = repr(expected), repr(came)  # a sign that stands for a character, and that character
    at = parting(*texts)
    shown = [cut(text, at, width) for text in texts]
    yield _line(LABELS[0], shown[0], "green")
    yield _line(LABELS[1], shown[1], "red")
    yield Text(" " * (LABEL_WIDTH + cell_len(shown[0][: parting(*shown)])) + "^", "bold")


def parting(one: str, other: str) -> int:
    """Where the first difference is."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def cut(text: str, at: int, width: int) -> str:
    """At most so many characters of a text, the one at `at` among them."""
    start = max(0, at - BEFORE) if len(text) > width else 0
    before, behind = CUT * (start > 0), CUT * (len(text) - start > width)
    return before + text[start : start + width - len(before) - len(behind)] + behind


def _line(label: str, text: str, style: str) -> Text:
    return Text.assemble(f"{label:<{LABEL_WIDTH}}", (text, style))
