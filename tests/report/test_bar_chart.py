"""Bars as SVG."""

import re

from gpt.report.bar_chart import LEFT, RIGHT, WIDTH, Bar, bar_chart


def test_widths_by_hand() -> None:
    """Values -1 and 3 without errors: zero stands a quarter in; a quarter and three quarters wide.

    Guards bars that all begin at the left edge, so that a fall looks like a rise.
    """
    bars = [Bar(name=n, value=v, stderr=None, text=f"{v:+}") for n, v in (("a", -1.0), ("<b>", 3.0))]
    svg = str(bar_chart(bars, label="rise"))
    rects = re.findall(r'<rect class="bars" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    span = WIDTH - LEFT - RIGHT
    assert [(float(x), float(w)) for x, w in rects] == [
        (LEFT, span / 4),
        (LEFT + span / 4, 3 * span / 4),
    ]
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


def test_nothing_is_drawn_of_nothing() -> None:
    """Guards max() of nothing where every method is absent."""
    assert bar_chart([], label="rise") == ""
