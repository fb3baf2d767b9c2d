"""gpt/report/line_chart.py against places worked out by hand."""

import re

import pytest

from gpt.report.line_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    line_chart,
    short_number,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 700, [0, 200, 400, 600, 800]),
        (1.9, 4.2, [1.5, 2, 2.5, 3, 3.5, 4, 4.5]),
        (2.5, 2.5, [2.5, 3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    """Guards: a scale of 0.37, 0.74, 1.11; a flat line that divides by zero."""
    assert ticks(low, high) == pytest.approx(expected)


def test_points_stand_where_their_numbers_are() -> None:
    """Guards: an axis upside down or a curve shifted against its scale.

    x 0..10 spans the plot's width; y 1..3 spans its height, so (5, 2) is the middle.
    """
    chart = line_chart(
        [Series(name="a", points=[(0, 1), (5, 2), (10, 3)], has_dots=True)], x_label="step", y_label="loss"
    )
    found = re.search(r'points="([^"]+)"', chart)
    assert found
    points = [tuple(float(v) for v in pair.split(",")) for pair in found[1].split()]
    left, right, low, high = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    expected = [(left, low), ((left + right) / 2, (low + high) / 2), (right, high)]
    for point, place in zip(points, expected, strict=True):
        assert point == pytest.approx(place, abs=0.06)
    assert chart.count("<circle") == 3
    assert "a: 2 at 5" in chart


def test_names_are_escaped_and_empty_series_left_out() -> None:
    """Guards: a stage's name that becomes markup; a chart of nothing."""
    chart = line_chart(
        [Series(name='<b a="1">', points=[(0, 1)]), Series(name="none", points=[])], x_label="x", y_label="y"
    )
    assert "<b" not in chart
    assert "&lt;b" in chart
    assert "none" not in chart
    assert line_chart([], x_label="x", y_label="y") == ""


def test_short_numbers() -> None:
    """Guards: 2,096,448 parameters called 2B, or 999 called 1K."""
    values = [2_096_448, 350e6, 1.3e9, 1000, 999, 0.25]
    assert [short_number(value) for value in values] == ["2.1M", "350M", "1.3B", "1K", "999", "0.25"]
