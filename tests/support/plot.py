"""Charts for the docs, as SVG written by hand: readable on light and dark pages, a few KB, the same bytes each time.

    page("Soak", [lines("memory", "MiB", [Line("both processes", points)]), bars("CPU", "s/GB", [Bar("here", 4.1)])])

A chart is a list of SVG elements and a height; `page` sets charts one below the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 760, 64, 24
PLOT_HEIGHT, HEAD, FOOT = 120, 34, 26
BAR_HEIGHT, BAR_GAP, BAR_LEFT = 16, 8, 220
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; fill: #1f2328 } .big { font-size: 16px }
  .grid { stroke: #d0d7de; stroke-width: 1 } .span { fill: #57606a; opacity: .12 }
  .target { stroke: #1f2328; stroke-width: 2 }
  .line { fill: none; stroke-width: 1.5; stroke-linejoin: round }
  .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
  .f0 { fill: #0969da } .f1 { fill: #bc4c00 } .f2 { fill: #1a7f37 } .f3 { fill: #8250df }
  .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #30363d } .page { fill: #0d1117 }
    .span { fill: #9198a1 } .target { stroke: #f0f6fc }
    .s0 { stroke: #4493f8 } .s1 { stroke: #db6d28 } .s2 { stroke: #3fb950 } .s3 { stroke: #ab7df8 }
    .f0 { fill: #4493f8 } .f1 { fill: #db6d28 } .f2 { fill: #3fb950 } .f3 { fill: #ab7df8 }
  }
"""
COLOURS = 4


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """`target` is drawn as a mark across the bar; `colour` tells kinds of bars apart."""

    name: str
    value: float
    target: float | None = None
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    elements: tuple[str, ...]
    height: float


def page(title: str, charts: Sequence[Chart], note: str = "") -> str:
    """The whole picture. `note` is set in small print below, wrapped."""
    body, y = [_text(LEFT, 28, title, "title big")], 44.0
    for chart in charts:
        body.append(f'<g transform="translate(0 {y:g})">{"".join(chart.elements)}</g>')
        y += chart.height
    for line in _wrapped(note, 110):
        y += 16
        body.append(_text(LEFT, y, line))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16:g}" role="img">'
    ground = '<rect class="page" width="100%" height="100%"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", ground, *body, "</svg>", ""])


def lines(
    title: str, unit: str, series: Sequence[Line], x: str = "", spans: Sequence[tuple[float, float, str]] = ()
) -> Chart:
    """Values over `x`, from zero up. `spans` shade parts of it, each with a word."""
    points = [point for line in series for point in line.points]
    low, high = min(at for at, _ in points), max(at for at, _ in points)
    rows = ticks(max(value for _, value in points))

    def place(at: float, value: float) -> tuple[float, float]:
        right = (at - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)
        return LEFT + right, HEAD + PLOT_HEIGHT * (1 - value / rows[-1])

    elements = [_text(LEFT, 18, f"{title}, {unit}" if unit else title, "title"), *_legend(series)]
    for start, end, word in spans:
        left, right = (place(min(max(at, low), high), 0)[0] for at in (start, end))
        shade = f'<rect class="span" x="{left:.1f}" y="{HEAD}" width="{right - left:.1f}" height="{PLOT_HEIGHT}"/>'
        elements += [shade, _text(left + 4, HEAD + 12, word)]
    for value in rows:
        elements += _row(value, place(low, value)[1])
    for at in ticks(high):
        if low <= at <= high:
            label = f"{at:g} {x}".strip() if at == ticks(high)[0] else f"{at:g}"
            elements.append(_text(place(at, 0)[0], HEAD + PLOT_HEIGHT + 16, label, anchor="middle"))
    for number, line in enumerate(series):
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
        elements.append(f'<polyline class="line s{number % COLOURS}" points="{path}"/>')
    return Chart(tuple(elements), HEAD + PLOT_HEIGHT + FOOT)


def bars(title: str, unit: str, values: Sequence[Bar]) -> Chart:
    """Lying bars from zero, each with its name and its value."""
    most = max(max(bar.value, bar.target or 0) for bar in values) or 1
    scale = (WIDTH - BAR_LEFT - RIGHT - 60) / most
    elements = [_text(LEFT, 18, f"{title}, {unit}" if unit else title, "title")]
    for number, bar in enumerate(values):
        y = HEAD + number * (BAR_HEIGHT + BAR_GAP)
        width, middle = bar.value * scale, y + BAR_HEIGHT - 4
        size = f'width="{width:.1f}" height="{BAR_HEIGHT}"'
        elements.append(_text(BAR_LEFT - 8, middle, bar.name, anchor="end"))
        elements.append(f'<rect class="f{bar.colour % COLOURS}" x="{BAR_LEFT}" y="{y}" {size} rx="2"/>')
        at = BAR_LEFT + max(width, (bar.target or 0) * scale) + 6
        elements.append(_text(at, middle, f"{bar.value:g}"))
        if bar.target is not None:
            x = BAR_LEFT + bar.target * scale
            mark = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + BAR_HEIGHT + 3}"'
            elements.append(f'<line class="target" {mark}/>')
    return Chart(tuple(elements), HEAD + len(values) * (BAR_HEIGHT + BAR_GAP) + 8)


def ticks(most: float, about: int = 4) -> list[float]:
    """Round numbers from 0 to at least `most`."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * 0.999)
    return [round(step * number, 10) for number in range(math.ceil(most / step - 1e-9) + 1)]


def _row(value: float, y: float) -> Iterator[str]:
    yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    yield _text(LEFT - 8, y + 4, f"{value:,g}" if value < 1e6 else f"{value:.3g}", anchor="end")


def _legend(series: Sequence[Line]) -> Iterator[str]:
    """From the right: a stroke and a name for each line, where there are several."""
    x: float = WIDTH - RIGHT
    for number, line in reversed(list(enumerate(series))) if len(series) > 1 else ():
        yield _text(x, 18, line.name, anchor="end")
        x -= 7 * len(line.name) + 8
        yield f'<line class="line s{number % COLOURS}" x1="{x - 16:g}" x2="{x:g}" y1="14" y2="14"/>'
        x -= 30


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    given = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:g}" y="{y:g}"{given}>{escape(text)}</text>'


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line
