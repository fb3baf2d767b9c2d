"""A line chart as inline SVG: drawn with the page's own colours, so that it follows light and dark.

Small on purpose: one column of a phone. No script; text stays text; the same points give the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 440.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 40.0
N_TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    is_faint: bool = False
    """Thin and pale: the noisy one behind the one that counts."""
    has_dots: bool = False
    color: int = 0
    """Index of the page's palette."""


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str) -> Markup:
    """Return the chart; a series without points is left out, none at all gives an empty string."""
    drawn = [s for s in series if s.points]
    if not drawn:
        return Markup("")
    xs, ys = zip(*(point for s in drawn for point in s.points), strict=True)
    x_ticks, y_ticks = ticks(min(0, *xs), max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = min(0.0, *xs), max(xs)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(x: float, y: float) -> Point:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            f"{WIDTH:g}", f"{HEIGHT:g}", f"{y_label} over {x_label}: {', '.join(s.name for s in drawn)}"
        )
    ]
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    for tick in x_ticks:
        if tick <= x_high:
            x, y = place(tick, y_low)
            parts.append(_line(x, y, x, y + 4, "axis"))
            parts.append(_text(x, y + 16, short_number(tick), "middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, x_label, "end"))
    for s in drawn:
        parts += _draw(s, [place(x, y) for x, y in s.points])
    return Markup("").join([*parts, Markup("</svg>")])


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, about N_TICKS of them.

    >>> ticks(0, 700)
    [0.0, 200.0, 400.0, 600.0, 800.0]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / N_TICKS))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= N_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def short_number(value: float) -> str:
    """Return a number in few characters: 1.2M, 300K, 0.5."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _draw(series: Series, points: list[Point]) -> list[Markup]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f"line c{series.color}{' faint' if series.is_faint else ''}"
    parts = [
        Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(
            style, path, series.name
        )
    ]
    if series.has_dots:
        for (x, y), (real_x, real_y) in zip(points, series.points, strict=True):
            parts.append(
                Markup('<circle class="dot c{}" cx="{}" cy="{}" r="2.6"><title>{}</title></circle>').format(
                    series.color, f"{x:.1f}", f"{y:.1f}", f"{series.name}: {real_y:.4g} at {real_x:,.0f}"
                )
            )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        style, *(f"{v:.1f}" for v in (x1, y1, x2, y2))
    )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", anchor, text
    )
