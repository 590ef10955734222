"""Curves as SVG: a picture for each figure, drawn to be read without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import escape

from netspec.runtime.journal import figure

WIDTH: Final = 360
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 28
MOST: Final = 400
"""So many points has a line; of longer histories every k-th and the last are drawn."""


@dataclass(frozen=True, slots=True)
class Series:
    label: str
    points: Sequence[tuple[float, float]]


def curve(title: str, series: Sequence[Series]) -> str:
    """An `<svg>` with axes, a line for each series, and its last value. Colours are classes: pages have two themes."""
    finite = [
        Series(one.label, thinned([(x, y) for x, y in one.points if math.isfinite(y)])) for one in series if one.points
    ]
    finite = [one for one in finite if one.points]
    head = f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    parts = [head, f'<text class="title" x="{LEFT}" y="17">{escape(title)}</text>']
    if not finite:
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">nothing finite</text></svg>')
        return "".join(parts)
    x_low, x_high = bounds([x for one in finite for x, _ in one.points], 0.5)
    ys = [y for one in finite for _, y in one.points]
    y_low, y_high = bounds(ys, max(abs(ys[0]) * 0.1, 1e-6))
    steps = ticks(y_low, y_high, 5)
    y_low, y_high = min(y_low, steps[0]), max(y_high, steps[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    for value in steps:
        _, y = at(x_low, value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{label(value, steps)}</text>')
    for value in (v for v in ticks(x_low, x_high, 6) if v == int(v) and x_low <= v <= x_high):
        x, _ = at(value, y_low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 9}" text-anchor="middle">{int(value)}</text>')
    words = []
    for one in finite:
        kind = one.label if one.label in ("train", "val", "test") else "plain"
        places = [at(x, y) for x, y in one.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="{kind}" points="{line}"/>')
        if len(places) <= 60:
            for (x, y), (epoch, value) in zip(places, one.points, strict=True):
                tip = escape(" ".join(filter(None, [f"epoch {epoch:g}:", one.label, told(value)])))
                parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"><title>{tip}</title></circle>')
        last = told(one.points[-1][1])
        words.append(f'<tspan class="{kind}" dx="10">{escape(one.label)}</tspan><tspan dx="4">{last}</tspan>')
    parts.append(f'<text class="last" x="{WIDTH - RIGHT}" y="17" text-anchor="end">{"".join(words)}</text></svg>')
    return "".join(parts)


def told(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else figure(value)


def bounds(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - margin, high + margin)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def label(value: float, steps: Sequence[float]) -> str:
    """A tick's number with no more digits than tell it from its neighbours."""
    step = steps[1] - steps[0] if len(steps) > 1 else abs(value) or 1.0
    largest = max(abs(steps[0]), abs(steps[-1]))
    if largest >= 1e5 or step < 1e-4:
        return f"{value:.2g}" if value else "0"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f'{step:e}'.startswith('2.5') else 0))}f}"


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= MOST:
        return points
    kept = list(points[:: -(-len(points) // MOST)])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
