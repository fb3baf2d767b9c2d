"""The dials of retrieval. Standard library only, so that a DVC dep on them stays cheap."""

import sys
from dataclasses import dataclass
from typing import Literal

Ranking = Literal["dense", "bm25", "rerank", "fusion"]
MIN_COVERAGE = 0.15
"""The share of a question's weight that the best of many passages must hold."""
FEW_PASSAGES = 50
"""In fewer, most of a question's small words stand nowhere and weigh the most, and a word of every passage
weighs almost nothing: coverage says little, and a threshold refuses what is there."""
ANYTHING = sys.float_info.min
"""The least coverage that is not 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkConfig:
    """How a document is cut into passages."""

    max_tokens: int = 120
    """Most tokens of a passage, counted with the answering model's tokenizer."""
    overlap_tokens: int = 24
    """Tokens that a passage shares with the one before it, whole sentences only."""

    def __post_init__(self) -> None:
        if self.max_tokens < 8:
            raise ValueError(f"max_tokens: at least 8 are needed, got {self.max_tokens}")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise ValueError(
                f"overlap_tokens: 0..{self.max_tokens // 2} (half of max_tokens), got {self.overlap_tokens}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """What is computed of every passage, and how it is searched."""

    embedding: Literal["sketch", "hidden"] = "sketch"
    """sketch is of BM25's weights (sketch.py), hidden the model's mean hidden state (hidden_states.py)."""
    dims: int = 2048
    """Width of a sketch; a hidden state has the model's own."""
    kind: Literal["flat", "hnsw"] = "flat"
    """FAISS's exact scan, or its graph, which reads a small part of a large index and may miss."""
    ranking: Ranking = "rerank"
    """dense is FAISS's order; rerank sorts its first n_candidates by exact BM25; bm25 does without FAISS;
    fusion adds the reciprocal ranks of dense and bm25."""
    n_candidates: int = 50
    """Passages that FAISS hands to rerank and fusion."""
    ngram_chars: int = 4
    """Characters of the word pieces that are indexed beside whole words; 0 leaves them out."""
    k1: float = 1.2
    """BM25: how soon a word's repetitions stop counting."""
    b: float = 0.75
    """BM25: how much a long passage is discounted, 0..1."""
    max_mb: float = 16.0
    """Most text that is indexed, in units of 10^6 characters."""

    def __post_init__(self) -> None:
        if self.dims < 8:
            raise ValueError(f"dims: at least 8 are needed, got {self.dims}")
        if self.n_candidates < 1:
            raise ValueError(f"n_candidates: at least 1 is needed, got {self.n_candidates}")
        if self.ngram_chars < 0 or self.ngram_chars == 1:
            raise ValueError(f"ngram_chars: 0 (none) or 2 and more, got {self.ngram_chars}")
        if self.k1 < 0:
            raise ValueError(f"k1: must not be negative, got {self.k1}")
        if not 0 <= self.b <= 1:
            raise ValueError(f"b: 0..1 is needed, got {self.b}")
        if self.max_mb <= 0:
            raise ValueError(f"max_mb: more than 0 is needed, got {self.max_mb}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerConfig:
    """How passages become an answer."""

    n_passages: int = 1
    """Most passages in the prompt; fewer where the context ends. Small models lose the thread over several:
    docs/chapters/rag.md has the measurement."""
    min_coverage: float = MIN_COVERAGE
    """Below this share of the question's weight found in the best passage the answer is that there is none;
    0 always answers."""
    max_tokens: int = 24
    """Most tokens of an answer."""
    form: Literal["plain", "chat"] = "plain"
    """plain text that goes on with the answer, or a turn of a chat."""

    def __post_init__(self) -> None:
        if self.n_passages < 1:
            raise ValueError(f"n_passages: at least 1 is needed, got {self.n_passages}")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage: 0..1 is needed, got {self.min_coverage}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: at least 1 is needed, got {self.max_tokens}")


def default_min_coverage(n_passages: int) -> float:
    """Return the threshold for an index of n passages where nobody named one: of few, only what shares
    nothing with the question is refused."""
    return ANYTHING if n_passages < FEW_PASSAGES else MIN_COVERAGE


@dataclass(frozen=True, kw_only=True, slots=True)
class RagConfig:
    """The stage rag."""

    documents: Literal["none", "corpus", "xquad"]
    """none turns the stage off; corpus asks for held-out sentences of the corpus' validation documents, with
    nothing to fetch; xquad asks real questions, from fetch's extra set of that name."""
    model: str
    """Checkpoint folder or model file that answers; a path among the dials: dvc.yaml depends on it."""
    n_questions: int
    """Questions that the model is asked in each condition."""
    max_passages: int
    """corpus: most passages that are indexed, so that the stage takes seconds."""
    seed: int
    chunk: ChunkConfig
    index: IndexConfig
    answer: AnswerConfig

    def __post_init__(self) -> None:
        if self.n_questions < 2:
            raise ValueError(f"n_questions: at least 2 are needed for an error, got {self.n_questions}")
        if self.max_passages < 10:
            raise ValueError(f"max_passages: at least 10 are needed, got {self.max_passages}")
