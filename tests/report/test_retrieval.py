"""The section on retrieval shows the stage's own figures, or why it has none."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from gpt.rag.illustrate import OFF
from gpt.report.page import render_page
from gpt.report.retrieval import gather_retrieval
from tests.report.test_page import Outline
from tests.report.tiny_run import RAG


def test_figures_passages_and_citations_are_shown(results: dict[str, Any]) -> None:
    """Guards: a table of other numbers, an error or n left out, a citation without its place, a number on a
    passage that the prompt did not hold."""
    words = " ".join(Outline(render_page(results)).words.split())
    for text in (
        "0.438 ± 0.062",
        "5.250 ± 0.12",
        "-0.125 ± 0.12",
        "dense, sorted again by BM25 (used)16",
        "Chance of the first place is 0.12.",
        "16 questions drawn with seed 8",
        "not read: othello.txt:3 (characters 0-20); 75 % of the question's weight",
        "[1] sonnets.txt:7 (characters 40-60); 50 % of the question's weight; the right one",
        "[1] sonnets.txt:7, characters 44-49 (verbatim)",
        "Shall I <compare> thee?",
        "Right: to a summer's day",
    ):
        assert text in words, text


def test_exact_match_and_citations_where_they_were_measured(results: dict[str, Any]) -> None:
    """Guards: figures of generated answers that the page leaves out."""
    changed = copy.deepcopy(results)
    answers = changed["retrieval"]["answers"]
    for name in ("without", "retrieved", "right", "retrieved_minus_without"):
        answers[name] |= {"exact_match": {"value": 0.25, "stderr": 0.125, "n": 16}}
    answers["citation_right"] = {"value": 0.75, "stderr": 0.125, "n": 16}
    words = " ".join(Outline(render_page(changed)).words.split())
    assert "exact matchhigher is better0.250 ± 0.12" in words
    assert "names the right passage in 75 % (± 12)" in words


def test_an_absent_section_says_why(tmp_path: Path, results: dict[str, Any]) -> None:
    """Guards: an empty table for a stage that is off, a page that breaks without it."""
    assert gather_retrieval({}) == {"absent": "there is no stage rag"}
    found = gather_retrieval({"rag": tmp_path})
    assert found == {"absent": f"results.json of {tmp_path.name} is not here; run `dvc repro`"}
    (tmp_path / "results.json").write_text(json.dumps(OFF))
    off = gather_retrieval({"rag": tmp_path})
    assert off == {"absent": OFF["why"]}
    page = render_page(results | {"retrieval": off})
    assert "Retrieval: not here. rag.documents is none" in Outline(page).words
    (tmp_path / "results.json").write_text(json.dumps(RAG))
    assert gather_retrieval({"rag": tmp_path}) == RAG
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        gather_retrieval({"rag": tmp_path})
