"""Named bars with standard errors as inline SVG, from a zero that may stand in the middle."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, ROW = 440.0, 24.0
LEFT, RIGHT = 96.0, 76.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar."""

    name: str
    value: float
    stderr: float | None
    text: str
    """The value for people, at the end of the row."""


def bar_chart(bars: Sequence[Bar], *, label: str) -> Markup:
    """Return the chart; without bars an empty string."""
    if not bars:
        return Markup("")
    low = min(0.0, *(bar.value - (bar.stderr or 0) for bar in bars))
    high = max(0.0, *(bar.value + (bar.stderr or 0) for bar in bars))

    def across(value: float) -> float:
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    height = ROW * len(bars) + 4
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            f"{WIDTH:g}", f"{height:g}", f"{label}: " + ", ".join(f"{bar.name} {bar.text}" for bar in bars)
        )
    ]
    for number, bar in enumerate(bars):
        top, middle = ROW * number + 5, ROW * number + ROW / 2 + 2
        ends = sorted((across(0), across(bar.value)))
        parts.append(_text(LEFT - 8, middle + 4, bar.name, "end"))
        parts.append(
            Markup('<rect class="bars" x="{}" y="{}" width="{}" height="{}"/>').format(
                *(f"{v:.1f}" for v in (ends[0], top, ends[1] - ends[0], ROW - 6))
            )
        )
        if bar.stderr:
            parts.append(
                _line(across(bar.value - bar.stderr), middle, across(bar.value + bar.stderr), middle)
            )
        parts.append(_text(WIDTH - RIGHT + 8, middle + 4, bar.text, "start"))
    parts.append(_line(across(0), 0, across(0), height))
    return Markup("").join([*parts, Markup("</svg>")])


def _line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        *(f"{v:.1f}" for v in (x1, y1, x2, y2))
    )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", anchor, text
    )
