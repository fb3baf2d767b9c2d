"""docs/chapters/tokenizer_comparison.md prints what the benchmarks measured; its prose agrees with them."""

import itertools
import re

import pytest

from benchmarks import tokenizer_chapter
from benchmarks.category_chart import CategorySeries, category_chart

CHAPTER = tokenizer_chapter.CHAPTER.read_text(encoding="utf-8")
TOKENS, QUALITY = tokenizer_chapter.read_results()
CELLS = {(row["tokenizer"], row["set"]): row for row in TOKENS["rows"]}
COSTS = tokenizer_chapter.tables(TOKENS, QUALITY)["cost"].splitlines()[2:]
DOMAIN = ("Hinglish dialogs", "Hinglish commands", "payment logs", "Devanagari")


def per_token(tokenizer: str, set_name: str) -> float:
    return CELLS[tokenizer, set_name]["bytes_per_token"]


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without rewriting the chapter."""
    tables = tokenizer_chapter.tables(TOKENS, QUALITY)
    assert tokenizer_chapter.rewrite(CHAPTER, tables) == CHAPTER, (
        "type: python -m benchmarks.tokenizer_chapter"
    )
    assert CHAPTER.count("\n|---") == len(tables), "a table that no benchmark printed"


def test_the_chapters_figures_are_the_results() -> None:
    """Guards: a figure of an older run, or one that the page does not show."""
    for name, svg in tokenizer_chapter.figures(TOKENS, QUALITY).items():
        assert f"]({name})" in CHAPTER
        path = tokenizer_chapter.CHAPTER.parent / name
        assert path.read_text(encoding="utf-8") == svg, "type: python -m benchmarks.tokenizer_chapter"


def test_the_prose_on_tokens_is_the_results() -> None:
    """Guards: sentences about another run; each line here is one of them."""
    for set_name in DOMAIN:
        assert per_token("mixed 8K", set_name) > per_token("GPT-2", set_name)
        assert per_token("mixed 4K", set_name) > per_token("English 32K", set_name)
    for size, most in {"4K": 0.03, "8K": 0.02, "16K": 0.01, "32K": 0.01}.items():
        loss = 1 - per_token(f"mixed {size}", "novels") / per_token(f"English {size}", "novels")
        assert 0 < loss < most
    assert per_token("English 32K", "novels") > per_token("GPT-2", "novels")
    for held in TOKENS["held_out"]:
        assert per_token("mixed 32K", held["set"]) > 0.85 * per_token("limit of gpt2", held["set"])
    assert CELLS["English char", "novels"]["unknown_characters"] > 0
    assert CELLS["mixed char", "payment logs"]["unknown_characters"] == 0
    words = {(row["tokenizer"], row["word"]): row["tokens"] for row in TOKENS["segments"]}
    assert (
        words["mixed 16K", "2026-05-03T18:36:02+05:30"] == words["limit of gpt2", "2026-05-03T18:36:02+05:30"]
    )
    assert words["limit of gpt2", "भुगतान"] == 5
    assert words["limit of modern", "भुगतान"] == 1
    assert per_token("mixed 16K modern", "Devanagari") > 1.75 * per_token("mixed 16K", "Devanagari")
    for size in ("4K", "8K", "16K", "32K"):
        for english in ("novels", "Shakespeare"):
            assert per_token(f"mixed {size} modern", english) > per_token(f"mixed {size}", english)
        commands = [per_token(f"mixed {size}{pattern}", "Hinglish commands") for pattern in ("", " modern")]
        assert 0.97 * commands[0] < commands[1] < commands[0]
    assert words["mixed 16K", "bheja"] == words["mixed 16K", "UPI"] == 1
    sentence = max((word for _, word in words), key=len)
    fewest = words["limit of gpt2", sentence]
    assert fewest < words["mixed 16K", sentence] < words["GPT-2", sentence] < words["English 16K", sentence]


def test_the_prose_on_costs_is_the_results() -> None:
    """Guards: sentences about another run, as above."""
    longer = [per_token(f"English {size}", "novels") for size in ("4K", "8K", "16K", "32K")]
    gains = [b / a for a, b in itertools.pairwise(longer)]
    assert 1.1 > gains[0] > gains[1] > gains[2] > 1
    bold = {
        line.split(" | ")[0]: line.split(" | ").index(cell)
        for line in COSTS
        for cell in line.split(" | ")
        if "**" in cell
    }
    assert bold == {"| this chapter's": 2, "| s4-small": 2, "| gpt2-124m": 4, "| gpt2-350m": 4}


def test_the_prose_on_quality_is_the_results() -> None:
    """Guards: sentences about another run, as above."""
    small, large = sorted({row["budget_tflop"] for row in QUALITY["rows"]})[:2]
    assert large == 4 * small
    for budget in (small, large):
        bits = {
            row["tokenizer"]: row["bits_per_byte"] for row in QUALITY["rows"] if row["budget_tflop"] == budget
        }
        assert bits["char"] > max(bits[name] for name in bits if name != "char") + 0.1
        assert bits["16K"] < bits["32K"] < bits["GPT-2"]
        middle = [bits[name] for name in ("4K", "8K", "16K")]
        if budget == small:
            assert max(bits["8K"], bits["16K"]) < bits["4K"]
        else:
            assert max(middle) - min(middle) < 0.05
    share = {row["tokenizer"]: row["head_share"] for row in QUALITY["rows"]}
    assert share["32K"] > share["16K"] > 0.6
    assert {row["body_parameters"] for row in QUALITY["rows"]} == {804_480}
    assert QUALITY["setting"]["n_novels"] == 20


def test_the_table_of_costs_by_hand() -> None:
    """By hand: 0.80M body, V 4,096, C 128, 4 layers, T 256: 6 x (804,480 + 524,288) + 12 x 4 x 128 x 256 is
    9.55 MFLOP a token; over bytes per token. Guards: a body's own vocabulary left in."""
    flops = 6 * (804_480 + 4096 * 128) + 12 * 4 * 128 * 256
    cost = flops / 1e6 / per_token("English 4K", "novels")
    row = next(line for line in CHAPTER.splitlines() if line.startswith("| this chapter's | 0.8M"))
    assert f"{cost:.3g} ({6 * 4096 * 128 / flops:.0%})" in row.split(" | ")[2]


def test_a_table_without_its_place_is_refused() -> None:
    """Guards: a table that is measured and never shown, silently."""
    with pytest.raises(ValueError, match="one line '<!-- x -->' and an empty one are needed"):
        tokenizer_chapter.rewrite("# A page\n", {"x": "| a |"})
    assert tokenizer_chapter.rewrite("<!-- x -->\n\n| old |\n\nand\n", {"x": "| a |\n|---|"}) == (
        "<!-- x -->\n\n| a |\n|---|\n\nand\n"
    )


def test_the_chart_places_values_and_bars() -> None:
    """By hand: values 1 and 3 with marks 1..3: the dot of 1 lies on the lowest line, that of 3 on the
    highest, a bar of 0.5 is a quarter of the plot; no line crosses the category that a series lacks."""
    series = CategorySeries(name="a < b", points={"x": (1.0, 0.0), "z": (3.0, 0.0)}, color=0)
    svg = category_chart(("x", "y", "z"), [series], "bits")
    dots = [float(y) for y in re.findall(r'<circle class="c0" cx="[\d.]+" cy="([\d.]+)"', svg)]
    lines = [float(y) for y in re.findall(r'<line class="grid" x1="[\d.]+" y1="([\d.]+)"', svg)]
    assert dots == [max(lines), min(lines)]
    assert svg.count('class="line c0"') == 1  # the legend's
    assert "a &lt; b" in svg
    barred = CategorySeries(name="a", points={"x": (1.5, 0.5), "z": (3.0, 0.0)}, color=0)
    svg = category_chart(("x", "y", "z"), [barred], "bits")
    low, high = (
        float(y)
        for y in re.findall(r'<line class="line c0" x1="[\d.]+" y1="([\d.]+)"[^/]*y2="([\d.]+)"', svg)[0]
    )
    assert high - low == pytest.approx((max(lines) - min(lines)) / 2, abs=0.2)
