"""XQuAD's English part (Artetxe, Ruder, Yogatama 2020): paragraphs, and questions that a span answers."""

import bz2
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpt.rag.passages import Document

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question with its answers and the paragraph that holds them."""

    text: str
    answers: tuple[str, ...]
    document: str
    """The paragraph's id."""
    start: int | None = None
    """Character of the paragraph at which the first answer begins; None where any part of it is right."""


def find_xquad(files: Path) -> Path:
    """Return the set's file in a fetch folder. Raises ValueError when fetch did not find it."""
    found = sorted((files / "extra/xquad").glob("*.json.bz2"))
    if not found:
        raise ValueError(
            "documents: xquad is asked for, but fetch has no such set; add xquad to fetch.extras, set "
            "RAWGPT_DATA_MIRROR, and run `dvc repro rag`; or set rag.documents to corpus"
        )
    return found[0]


def read_xquad(path: Path) -> tuple[list[Document], list[Question]]:
    """Return the paragraphs, ids `title#number`, and the questions in order. Raises ValueError for damage."""
    try:
        with bz2.open(path, "rt", encoding="utf-8") as file:
            articles: list[dict[str, Any]] = json.load(file)["data"]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not XQuAD's file ({error}); run `dvc repro -f fetch`") from None
    documents, questions = [], []
    for article in articles:
        for number, paragraph in enumerate(article["paragraphs"]):
            document = Document(id=f"{article['title']}#{number}", text=paragraph["context"])
            documents.append(document)
            for item in paragraph["qas"]:
                first = item["answers"][0]
                assert document.text[first["answer_start"] :].startswith(first["text"]), (
                    "a span of its paragraph"
                )
                questions.append(
                    Question(
                        text=item["question"],
                        answers=tuple(answer["text"] for answer in item["answers"]),
                        document=document.id,
                        start=first["answer_start"],
                    )
                )
    return documents, questions


def draw(items: Sequence[T], n: int, seed: int) -> list[T]:
    """Draw n of the items without repeats, in their own order; all of them where there are fewer."""
    chosen = np.random.default_rng(seed).permutation(len(items))[:n]
    return [items[i] for i in sorted(chosen)]
