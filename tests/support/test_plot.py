"""Charts are what they say: numbers at their places, in a document that every reader of SVG takes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import plot
from hypothesis import given
from hypothesis import strategies as st
from plot import Bar, Line


@given(st.floats(1e-6, 1e12))
def test_ticks(most: float) -> None:
    """Ticks begin at zero, reach what is shown, and are neither few nor many."""
    found = plot.ticks(most)
    assert found[0] == 0
    assert found[-1] >= most * 0.999
    assert 3 <= len(found) <= 6


def test_lines_are_in_proportion() -> None:
    """A value half as high as the uppermost tick is drawn in the middle of its chart, half way along the x axis."""
    (path,) = re.findall(
        r'points="([^"]+)"', "".join(plot.lines("x", "", [Line("a", [(0, 0), (1, 50), (2, 100)])]).elements)
    )
    points = [tuple(map(float, pair.split(","))) for pair in path.split()]
    (left, bottom), (x, y), (right, top) = points
    assert (x, y) == ((left + right) / 2, (bottom + top) / 2)
    assert bottom > top


def test_bars_are_in_proportion() -> None:
    """A bar is as long as its value says, and its target's mark stands where its own bar would end."""
    drawn = "".join(plot.bars("x", "s", [Bar("a", 10), Bar("b", 5, target=10)]).elements)
    widths = [float(width) for width in re.findall(r'width="([\d.]+)"', drawn)]
    (mark,) = re.findall(r'<line class="target" x1="([\d.]+)"', drawn)
    assert widths[0] == 2 * widths[1]
    assert float(mark) == plot.BAR_LEFT + widths[0]


def test_a_page_is_one_document() -> None:
    """A page is well-formed, whatever its words hold, and has all its charts."""
    chart = plot.lines('<&"', "MiB", [Line("a", [(0, 1)]), Line("b", [(0, 2)])], spans=[(-1, 9, "<kills>")])
    root = ElementTree.fromstring(plot.page("a < b", [chart, plot.bars("c", "", [Bar("d", 0)])], "said & done " * 40))
    assert len(root.findall("{*}g")) == 2
