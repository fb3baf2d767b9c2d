"""gpt/report/page.py: what the results hold is on the page, and nothing of it runs."""

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from gpt.report.page import render_page, words_of_bytes, words_of_seconds

VOID = {"meta", "br", "rect", "circle", "line", "path", "polyline"}


class Outline(HTMLParser):
    """Tags, attributes and text of a page; asserts that elements close as they opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_base_of_somebody_else_is_not_called_trained_here(results: dict[str, Any]) -> None:
    """Guards: the profile smollm2's page said that SmolLM2 was trained from random weights on Shakespeare."""
    claim = "trained from random weights"
    assert claim in Outline(render_page(results)).words
    foreign = copy.deepcopy(results)
    foreign["models"][0]["model"] = "base"
    words = Outline(render_page(foreign)).words
    assert "was trained elsewhere. Made here: " in words
    assert claim not in words


def test_figures_are_on_the_page(results: dict[str, Any]) -> None:
    """Guards: a table that shows other numbers than results.json, an n or an error left out."""
    words = " ".join(Outline(render_page(results)).words.split())
    for figure in (
        "3.25",
        "3.75",
        "± 0.031",
        "421",
        "28,864",
        "2.48",
        "+0.000020",
        "+5.00 %",
        "+10.00 %",
        "chance 0.0625",
    ):
        assert figure in words, figure
    for text in (
        "synthetic logs",
        "Tuning updated 10 of 100 parameters (10.0 %)",
        "There is no stage align in this pipeline.",
        "88 of the 100 log records are written by machines",
        "Absent: hellaswag_lm_eval_acc_norm_char. the set hellaswag_val was not fetched",
        "Measured, never booted",
        "There is no EIF: no Debian here",
        "no network here",
        "pretrain.train.seed 11",
        "on 30 validation positions, seed 11",
        "A CPU & Co",
        "$0.2300",
        "Train <the> model",
        "1 of them were left after scrubbing: recall 0.9950",
    ):
        assert text in words, text


def test_what_a_model_wrote_is_shown_and_not_run(results: dict[str, Any]) -> None:
    """Guards: a sample, a prompt, a token or a licence that becomes markup."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    changed = copy.deepcopy(results)
    changed["samples"][0]["text"] = evil
    changed["samples"][1]["prompt"] = evil
    changed["demo"]["answers"][0]["text"] = changed["demo"]["answers"][1]["prompt"] = evil
    changed["heatmaps"]["tokens"][0] = "<script>"
    changed["data"]["sources"]["source"]["licence"] = evil
    changed["enclave"]["why_no_eif"] = evil
    changed["training"][0]["stage"] = evil
    changed["scores"][3]["absent"] = evil
    page = render_page(changed)
    assert not {"script", "img"} & set(Outline(page).tags)
    assert page.count("&lt;script&gt;alert(1)") >= 6


def test_page_stands_alone(results: dict[str, Any]) -> None:
    """Guards: a font, a script or a picture that a reader without a network does not get."""
    page = render_page(results)
    outline = Outline(page)
    assert not {"script", "link", "iframe", "img"} & set(outline.tags)
    links = {value for name, value in outline.attributes if name in ("src", "href")}
    assert links
    assert all(link.startswith("#") for link in links)
    assert "http" not in page
    assert "url(" not in page
    assert {f"#{name}" for name in re.findall(r'<section id="(\w+)"', page)} == links


def test_page_is_drawn_from_the_json_alone(results: dict[str, Any]) -> None:
    """Guards: a page that cannot be made again from results.json, or depends on the order of its keys."""
    loaded = json.loads(json.dumps(results, sort_keys=True))
    assert render_page(loaded) == render_page(json.loads(json.dumps(loaded)))
    assert Outline(render_page(loaded)).words.count("pretrain") == Outline(render_page(results)).words.count(
        "pretrain"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "not run"), (7.53, "7.5 s"), (60, "1 min 00 s"), (3599.7, "1 h 00 min"), (7320, "2 h 02 min")],
)
def test_durations(value: float | None, words: str) -> None:
    """Guards: 60 seconds in a minute's seconds."""
    assert words_of_seconds(value) == words


def test_sizes() -> None:
    """Guards: thousands called KiB."""
    assert [words_of_bytes(v) for v in (1023, 1024, 1536 * 1024, 5 * 2**40)] == [
        "1,023 B",
        "1.0 KiB",
        "1.5 MiB",
        "5,120.0 GiB",
    ]
