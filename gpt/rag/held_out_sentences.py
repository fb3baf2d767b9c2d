"""Questions out of any text: a sentence is taken out of its passage, and asks for the one that followed it.

The inverse cloze task (Lee, Chang, Toutanova 2019). The right passage is known by construction: the
sentence's old neighbours, of which the next is the answer. The sentence itself stands nowhere in the index,
unless the text repeats it. Synthetic: it measures whether neighbours are found, not people's questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gpt.rag.chunk import chunk_document, sentences
from gpt.rag.config import ChunkConfig
from gpt.rag.features import words
from gpt.rag.passages import Document
from gpt.rag.xquad import Question, draw

MIN_WORDS, MAX_WORDS = 8, 40
"""Sentences that are asked: long enough to say something."""


def hold_out_sentences(
    documents: Sequence[Document],
    chunk: ChunkConfig,
    count_tokens: Callable[[str], int],
    *,
    max_passages: int,
    n_questions: int,
    seed: int,
) -> tuple[list[Document], list[Question]]:
    """Return passages of the documents, some without one sentence, and those sentences as questions.

    The passages come evenly from all over the documents, without overlap, and are documents of their own, ids
    `document@start`. Raises ValueError when the text is too short for two questions.
    """
    plain = replace(chunk, overlap_tokens=0)
    passages = [p for document in documents for p in chunk_document(document, plain, count_tokens)]
    spread = np.linspace(0, len(passages) - 1, min(len(passages), max_passages)).astype(int)
    kept = [passages[i] for i in spread]
    candidates = []
    for i, passage in enumerate(kept):
        spans = sentences(passage.text)
        good = [_says_something(passage.text[a:b], chunk, count_tokens) for a, b in spans]
        pairs = [n for n in range(1, len(spans) - 1) if good[n] and good[n + 1]]
        if pairs:
            n = pairs[len(pairs) // 2]
            candidates.append((i, *spans[n], *spans[n + 1]))
    if len(candidates) < 2:
        raise ValueError(
            "documents: too little text to hold sentences out of; raise fetch.val_fraction or set "
            "rag.documents to none"
        )
    texts = [passage.text for passage in kept]
    ids = [f"{passage.document}@{passage.start}" for passage in kept]
    questions = []
    for i, a, b, after, end in draw(candidates, n_questions, seed):
        passage = kept[i].text
        head = f"{passage[:a].rstrip()}\n"
        texts[i] = head + passage[after:]
        questions.append(
            Question(text=passage[a:b], answers=(passage[after:end],), document=ids[i], start=len(head))
        )
    return [Document(id=name, text=text) for name, text in zip(ids, texts, strict=True)], questions


def _says_something(sentence: str, chunk: ChunkConfig, count_tokens: Callable[[str], int]) -> bool:
    """Tell whether a sentence is long enough to ask with, and short enough to stand beside a passage."""
    fits = count_tokens(sentence) <= chunk.max_tokens // 2
    return fits and MIN_WORDS <= len(words(sentence)) <= MAX_WORDS
