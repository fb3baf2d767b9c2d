"""The section on retrieval: what the stage rag measured, as tables and three examples.

Reads results.json of the stage; a stage that is turned off is an absence with its own reason.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt.report.artefacts import absent, is_absent, read_json

CONDITIONS = {"without": "no passage", "retrieved": "the passages found", "right": "the right passage"}
FIGURES = {
    "exact_match": ("exact match", "higher"),
    "f1": ("F1", "higher"),
    "nats": ("nats per token of the right answer", "lower"),
}
RANKINGS = {
    "dense": "our dense vectors, FAISS",
    "bm25": "BM25",
    "rerank": "dense, sorted again by BM25",
    "fusion": "reciprocal ranks of dense and BM25",
}


def gather_retrieval(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the stage's results, or why there are none. Raises ValueError for a damaged file."""
    if "rag" not in folders:
        return absent("there is no stage rag")
    results = read_json(folders["rag"] / "results.json")
    if is_absent(results):
        return results
    return results if results["is_on"] else absent(results["why"])


def retrieval_tables(retrieval: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lines of both tables: rankings by figure, and figures by what the model was given."""
    answers = retrieval["answers"]
    figures = [name for name in FIGURES if name in answers["without"]]
    return {
        "rankings": [
            {"name": RANKINGS[name], "is_used": name == retrieval["ranking"], **scores}
            for name, scores in retrieval["retrieval"].items()
        ],
        "conditions": list(CONDITIONS.values()),
        "answers": [
            {
                "title": FIGURES[name][0],
                "is_better": FIGURES[name][1],
                "cells": [answers[condition][name] for condition in CONDITIONS],
                "difference": answers["retrieved_minus_without"][name],
            }
            for name in figures
        ],
        "chance": 1 / retrieval["n_passages"],
    }
