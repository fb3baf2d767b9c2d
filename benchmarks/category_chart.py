"""A chart of lines over named categories as a standalone SVG file. Not a benchmark.

For Markdown pages, which take no style from around them: colours stand in the file and follow light and dark.
The same points give the same bytes. The page of reports has its own (gpt/report/line_chart.py).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpt.report.line_chart import ticks

WIDTH, PLOT_HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 30.0, 30.0
LEGEND_LINE = 18.0
STYLE = (
    "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.c0{stroke:#2f6fb2;fill:#2f6fb2}"
    ".c1{stroke:#c2571a;fill:#c2571a}.c2{stroke:#3a8f4d;fill:#3a8f4d}.c3{stroke:#8a4fb0;fill:#8a4fb0}"
    ".line{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}"
    "@media (prefers-color-scheme:dark){text{fill:#ccc}.grid{stroke:#444}}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CategorySeries:
    """One line: a value and half the length of its error bar for some of the categories."""

    name: str
    points: dict[str, tuple[float, float]]
    color: int
    """0..3."""
    is_dashed: bool = False


def category_chart(categories: Sequence[str], series: Sequence[CategorySeries], y_label: str) -> str:
    """Return the chart; neighbouring categories are joined where a series has both."""
    low = min(value - error for s in series for value, error in s.points.values())
    high = max(value + error for s in series for value, error in s.points.values())
    marks = ticks(low, high)
    step = (WIDTH - LEFT - RIGHT) / len(categories)
    height = PLOT_HEIGHT + LEGEND_LINE * len(series) + 8

    def place(category: str, value: float) -> tuple[float, float]:
        up = (value - marks[0]) / (marks[-1] - marks[0])
        across = LEFT + step * (categories.index(category) + 0.5)
        return across, PLOT_HEIGHT - BOTTOM - up * (PLOT_HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img">',
        f"<title>{escape(y_label)}</title><style>{STYLE}</style>",
        _text(8, 16, y_label, "start"),
    ]
    for mark in marks:
        _, y = place(categories[0], mark)
        parts.append(f'<line class="grid" x1="{LEFT:g}" y1="{y:.1f}" x2="{WIDTH - RIGHT:g}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{mark:g}", "end"))
    for category in categories:
        parts.append(_text(place(category, marks[0])[0], PLOT_HEIGHT - 10, category, "middle"))
    for number, s in enumerate(series):
        placed = {}
        for category, (value, error) in s.points.items():
            x, y = place(category, value)
            placed[category] = (x, y, y - place(category, value + error)[1])
        parts += _draw(s, categories, placed)
        y = PLOT_HEIGHT + LEGEND_LINE * (number + 0.6)
        parts.append(
            f'<line class="{_style(s)}" x1="{LEFT:g}" y1="{y:.1f}" x2="{LEFT + 28:g}" y2="{y:.1f}"/>'
        )
        parts.append(_text(LEFT + 36, y + 4, s.name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _draw(
    series: CategorySeries,
    categories: Sequence[str],
    placed: dict[str, tuple[float, float, float]],
) -> list[str]:
    """Return the lines, dots and error bars of a series; `placed` holds x, y and the bar's half length."""
    parts = []
    for left, right in itertools.pairwise(categories):
        if left in placed and right in placed:
            (x1, y1, _), (x2, y2, _) = placed[left], placed[right]
            parts.append(
                f'<line class="{_style(series)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
            )
    for category, (x, y, error) in placed.items():
        value = series.points[category][0]
        title = f"<title>{escape(series.name)}, {escape(category)}: {value:.3f}</title>"
        parts.append(f'<circle class="c{series.color}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{title}</circle>')
        if error:
            bar = f'x1="{x:.1f}" y1="{y - error:.1f}" x2="{x:.1f}" y2="{y + error:.1f}"'
            parts.append(f'<line class="line c{series.color}" {bar}/>')
    return parts


def _style(series: CategorySeries) -> str:
    return f"line c{series.color}{' dashed' if series.is_dashed else ''}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
