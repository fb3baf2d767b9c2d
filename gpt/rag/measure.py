"""How well is the right passage found, and what is it worth to the model that answers?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpt.catalog.open_model import OpenModel
from gpt.evaluate.token_nats import token_nats
from gpt.rag.answer import cite, generate_answer
from gpt.rag.answer_score import exact_match, f1
from gpt.rag.config import AnswerConfig
from gpt.rag.index import Index
from gpt.rag.passages import Passage
from gpt.rag.prompt import Prompt, make_prompt
from gpt.rag.xquad import Question

DEPTH = 20
"""Passages that are looked through for the right one; below it, its reciprocal rank counts as 0."""
CONDITIONS = ("without", "retrieved", "right")
"""What the model is given: no passage, those found, the right one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """A mean with its standard error over n observations."""

    value: float
    stderr: float
    n: int


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean; the error is the sample's, over its root."""
    array = np.asarray(values, dtype=np.float64)
    stderr = float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return Mean(value=float(array.mean()), stderr=stderr, n=len(array))


def is_right(passage: Passage, question: Question) -> bool:
    """Tell whether a passage is of the question's document and holds the answer's first character."""
    if passage.document != question.document:
        return False
    return question.start is None or passage.start <= question.start < passage.end


def rank_of(index: Index, question: Question) -> int | None:
    """Return the rank, from 1, of the first right passage among the DEPTH best; None when it is not there."""
    for rank, found in enumerate(index.search(question.text, DEPTH), 1):
        if is_right(found.passage, question):
            return rank
    return None


def retrieval_scores(ranks: Sequence[int | None]) -> dict[str, Mean]:
    """Return recall at 1 and 5 and the mean reciprocal rank."""
    return {
        "recall_at_1": mean_of([float(rank == 1) for rank in ranks]),
        "recall_at_5": mean_of([float(rank is not None and rank <= 5) for rank in ranks]),
        "mrr": mean_of([0.0 if rank is None else 1 / rank for rank in ranks]),
    }


def prompts_of(
    question: Question, index: Index, opened: OpenModel, config: AnswerConfig
) -> dict[str, Prompt]:
    """Return the prompt of every condition. The right passage is given alone."""
    found = [f.passage for f in index.search(question.text, config.n_passages)]
    right = [passage for passage in index.passages if is_right(passage, question)][:1]
    assert right, f"{question.document}: no passage of the index holds the answer"
    given: dict[str, list[Passage]] = {"without": [], "retrieved": found, "right": right}
    length = opened.model.config.max_seq_len
    return {
        name: make_prompt(opened.tokenizer, question.text, given[name], config, length) for name in CONDITIONS
    }


def answer_question(
    question: Question, index: Index, opened: OpenModel, config: AnswerConfig, *, generates: bool
) -> dict[str, Any]:
    """Ask one question in every condition: nats per token of the right answer, and where asked the text.

    Greedy; `citation_right` says whether the retrieved condition's citations name the right passage.
    """
    prompts = prompts_of(question, index, opened, config)
    row: dict[str, Any] = {"question": question.text, "answers": list(question.answers)}
    for name, prompt in prompts.items():
        row[name] = {"nats": answer_nats(opened, prompt, question.answers[0])}
        if generates:
            text = generate_answer(opened, prompt, config)
            right = question.answers
            row[name] |= {"text": text, "exact_match": exact_match(text, right), "f1": f1(text, right)}
    if generates:
        citations = cite(row["retrieved"]["text"], prompts["retrieved"].passages)
        row["citation_right"] = float(any(is_right(c.passage, question) for c in citations))
    return row


def answer_nats(opened: OpenModel, prompt: Prompt, text: str) -> float:
    """Return the model's mean nats per token of an answer behind its prompt; the context's end cuts it."""
    ids = [*prompt.ids, *opened.tokenizer.encode(f" {text}")][: opened.model.config.max_seq_len]
    learned = [position >= len(prompt.ids) for position in range(len(ids))]
    with torch.inference_mode():
        (nats,) = token_nats(opened.model, [(ids, learned)], len(ids))
    return float(nats.mean())


def answer_scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return each figure's mean for every condition, and the paired difference of retrieved and without."""
    figures = [key for key in rows[0]["without"] if key != "text"]
    scores: dict[str, Any] = {
        name: {figure: mean_of([row[name][figure] for row in rows]) for figure in figures}
        for name in CONDITIONS
    }
    scores["retrieved_minus_without"] = {
        figure: mean_of([row["retrieved"][figure] - row["without"][figure] for row in rows])
        for figure in figures
    }
    if "citation_right" in rows[0]:
        scores["citation_right"] = mean_of([row["citation_right"] for row in rows])
    return scores
