"""The index of a folder of documents: built whole, saved with hashes, opened, searched.

On disk: passages.jsonl, lexicon.safetensors (BM25's arrays and what the embedder learned), vectors.faiss,
index.json (dials and each document's sha256) and manifest.json, checked before anything is read. Nothing is
added to a finished index: BM25's weights and the centres depend on every passage, so one changed document
means another index, made whole again. No pickle: FAISS reads a format of its own.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.durable_file import write_durably
from gpt.checkpoint.manifest import MANIFEST, check_manifest
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.config import fingerprint, from_mapping, to_dict
from gpt.corpus.jsonl import jsonl_line
from gpt.rag.bm25 import Bm25, fit_bm25, load_bm25
from gpt.rag.chunk import chunk_document
from gpt.rag.config import ChunkConfig, IndexConfig
from gpt.rag.hidden_states import HiddenStates
from gpt.rag.passages import Document, Passage
from gpt.rag.sketch import Embedder, Sketch

FORMAT = "rawgpt-index-1"
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 80, 64
"""Links of a passage in the graph, and how many are looked at while it is built and searched."""
RANK_OFFSET = 60
"""Reciprocal rank fusion adds 1 / (60 + rank) of each list (Cormack, Clarke, Buettcher 2009)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A passage that was found."""

    passage: Passage
    number: int
    """Its place in the index."""
    score: float
    """In the units of the ranking: BM25's, an inner product, or a sum of reciprocal ranks."""
    coverage: float
    """BM25's score over the most that any passage could reach, 0..1: how much of the question is in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index in memory."""

    passages: tuple[Passage, ...]
    bm25: Bm25
    embedder: Embedder
    vectors: Any
    """FAISS's index."""
    config: IndexConfig
    facts: dict[str, Any]
    """index.json."""

    def search(self, question: str, n: int) -> list[Found]:
        """Return the n best passages, best first; equal ones in their order. Fewer where there are fewer."""
        lexical = self.bm25.scores(question)  # (N,)
        bound = self.bm25.bound(question)
        order, scores = self._rank(question, lexical, max(n, self.config.n_candidates))
        return [
            Found(
                passage=self.passages[i],
                number=int(i),
                score=float(score),
                coverage=float(lexical[i]) / bound if bound else 0.0,
            )
            for i, score in list(zip(order, scores, strict=True))[:n]
        ]

    def dense(self, question: str, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return FAISS's n nearest passages and their inner products, best first."""
        scores, numbers = self.vectors.search(
            self.embedder.question(question)[None], min(n, len(self.passages))
        )
        found = numbers[0] >= 0  # the graph may find fewer
        return numbers[0][found], scores[0][found]

    def _rank(self, question: str, lexical: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        ranking = self.config.ranking
        if ranking == "bm25":
            order = np.argsort(-lexical, kind="stable")[:n]
            return order, lexical[order]
        numbers, scores = self.dense(question, n)
        if ranking == "dense":
            return numbers, scores
        if ranking == "rerank":
            numbers = np.sort(numbers)  # equal scores keep the passages' order, not FAISS's
            order = numbers[np.argsort(-lexical[numbers], kind="stable")]
            return order, lexical[order]
        fused = fuse_ranks([numbers, np.argsort(-lexical, kind="stable")[:n]], len(self.passages))
        order = np.argsort(-fused, kind="stable")[:n]
        return order, fused[order]


def fuse_ranks(lists: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return the sum of reciprocal ranks of items 0..n-1 over lists of them, best first: float64 (n,)."""
    fused = np.zeros(n)
    for order in lists:
        fused[order] += 1 / (RANK_OFFSET + 1 + np.arange(len(order)))
    return fused


def build_index(
    documents: Sequence[Document],
    chunk: ChunkConfig,
    config: IndexConfig,
    *,
    count_tokens: Callable[[str], int],
    hidden: HiddenStates | None = None,
    model: str = "",
    max_passages: int | None = None,
) -> Index:
    """Cut, embed and index documents; `hidden` is needed where config.embedding asks for it.

    `model` names the tokenizer and, for hidden states, the weights: another one makes another index.
    Raises ValueError when the documents hold no sentence.
    """
    passages = [p for document in documents for p in chunk_document(document, chunk, count_tokens)]
    passages = passages[:max_passages]
    if not passages:
        raise ValueError("documents: they hold no sentence; give files with text")
    texts = [passage.text for passage in passages]
    bm25 = fit_bm25(texts, ngram_chars=config.ngram_chars, k1=config.k1, b=config.b)
    embedder: Embedder
    if config.embedding == "hidden":
        assert hidden is not None, "hidden states need a model"
        embedder, made = hidden, hidden.fit(texts)
    else:
        embedder = Sketch(bm25, config.dims)
        made = embedder.passages(texts)
    return Index(
        passages=tuple(passages),
        bm25=bm25,
        embedder=embedder,
        vectors=_add(made, config),
        config=config,
        facts={
            "format": FORMAT,
            "chunk": to_dict(chunk),
            "index": to_dict(config),
            "model": model,
            "documents": {document.id: document.sha256 for document in documents},
        },
    )


def _add(vectors: np.ndarray, config: IndexConfig) -> Any:
    """Put vectors (n, d) into FAISS; the graph by one thread, so that it is the same every time."""
    if config.kind == "flat":
        index: Any = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def save_index(index: Index, folder: Path) -> None:
    """Write the folder whole or not at all; the same index gives the same bytes."""
    with atomic_folder(folder) as temporary:
        write_durably(temporary / "passages.jsonl", map(jsonl_line, map(to_dict, index.passages)))
        tensors = index.bm25.tensors() | index.embedder.tensors()
        write_safetensors(temporary / "lexicon.safetensors", tensors)
        write_durably(temporary / "vectors.faiss", [faiss.serialize_index(index.vectors).tobytes()])
        facts = json.dumps(index.facts, indent=2, sort_keys=True) + "\n"
        write_durably(temporary / "index.json", [facts.encode()])


def open_index(folder: Path, *, hidden: HiddenStates | None = None) -> Index:
    """Open an index. Raises ValueError that names what is missing or damaged."""
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder}: no index; `rawgpt ask QUESTION --documents FOLDER` makes one")
    check_manifest(folder)
    facts = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{folder}: format {facts.get('format')!r}, {FORMAT} is read; remove it and ask again"
        )
    config = from_mapping(IndexConfig, facts["index"], f"{folder}/index.json: index")
    lines = (folder / "passages.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    passages = tuple(Passage(**json.loads(line)) for line in lines)
    tensors = read_safetensors(folder / "lexicon.safetensors")
    bm25 = load_bm25(tensors, n_passages=len(passages), ngram_chars=config.ngram_chars, k1=config.k1)
    embedder: Embedder
    if config.embedding == "hidden":
        if hidden is None:
            raise ValueError(f"{folder}: an index of hidden states needs its model; give --model")
        hidden.load(tensors)
        embedder = hidden
    else:
        embedder = Sketch(bm25, config.dims)
    raw = np.frombuffer((folder / "vectors.faiss").read_bytes(), dtype=np.uint8)
    vectors = faiss.deserialize_index(raw)
    assert vectors.ntotal == len(passages), "the manifest certified another set of files"
    return Index(passages=passages, bm25=bm25, embedder=embedder, vectors=vectors, config=config, facts=facts)


def what_changed(
    folder: Path, documents: Sequence[Document], chunk: ChunkConfig, config: IndexConfig, model: str
) -> list[str]:
    """Say why an index is not of these documents and dials; nothing when it is, or when there is none."""
    path = folder / "index.json"
    if not path.is_file():
        return []
    facts = json.loads(path.read_text(encoding="utf-8"))
    now, then = {document.id: document.sha256 for document in documents}, facts.get("documents", {})
    changes = [f"{name} is new" for name in sorted(set(now) - set(then))]
    changes += [f"{name} is gone" for name in sorted(set(then) - set(now))]
    changes += [f"{name} changed" for name in sorted(set(now) & set(then)) if now[name] != then[name]]
    dials = [facts.get(key) for key in ("format", "chunk", "index", "model")]
    if fingerprint(dials) != fingerprint([FORMAT, to_dict(chunk), to_dict(config), model]):
        changes.append("the dials or the model are others")
    return changes
