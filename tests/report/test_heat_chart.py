"""gpt/report/heat_chart.py."""

from gpt.report.heat_chart import CELL, MARGIN, heat_chart, label


def test_a_cell_is_its_row_s_query_and_its_column_s_key() -> None:
    """Guards: a transposed map, which would show tokens looking ahead.

    Three rows of 1, 2 and 3 weights; the one below the threshold is not drawn: 5 cells. Row 2, column 1.
    """
    chart = heat_chart(["a", "b", "c"], [[1, 0, 0], [0.25, 0.75, 0], [0.001, 0.399, 0.6]])
    assert chart.count("<rect") == 5
    x, y = MARGIN + 1 * CELL, MARGIN + 2 * CELL
    assert f'<rect x="{x:g}" y="{y:g}" width="12" height="12" fill-opacity="0.399">' in chart
    assert "c looks at b: 0.40" in chart


def test_tokens_are_escaped_and_blanks_shown() -> None:
    """Guards: a token of `<script` that is run; labels of nothing."""
    chart = heat_chart(["<script>", " \n"], [[1, 0], [0.5, 0.5]])
    assert "<script" not in chart
    assert "&lt;script&gt;" in chart
    assert label(" the\n") == "·the⏎"
    assert label("abcdefghijk") == "abcdefgh…"
