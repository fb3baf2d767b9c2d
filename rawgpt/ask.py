"""`rawgpt ask`: a question answered from documents of one's own, with the places it rests on."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option


def ask(
    question: Annotated[str, Argument(help="What you want to know.")],
    documents: Annotated[Path, Option(help="Folder or file: .txt, .md, .jsonl, .parquet, also packed.")],
    model: Annotated[str, Option(help="A stage, a folder, a .gguf file or smollm2-135m.")] = "smollm2-135m",
    index: Annotated[Path | None, Option(help="Where the index is kept; by default in data/.cache.")] = None,
    text_field: Annotated[str, Option(help="Field of a record that holds its text.")] = "text",
    embedding: Annotated[str, Option(help="sketch (of BM25) or hidden (the model's states).")] = "sketch",
    ranking: Annotated[str, Option(help="rerank, dense, bm25 or fusion.")] = "rerank",
    kind: Annotated[str, Option(help="FAISS: flat (exact) or hnsw (a graph, for large folders).")] = "flat",
    chunk_tokens: Annotated[int, Option(help="Most tokens of a passage.")] = 160,
    passages: Annotated[
        int, Option(help="Most passages that the model reads; small models lose the thread over several.")
    ] = 1,
    min_coverage: Annotated[
        float | None,
        Option(
            help="Say `I do not know` below this share of the question, 0..1; 0 never. By default 0.15, and "
            "of fewer than 50 passages only where none shares anything with the question.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[int, Option(help="Most tokens of the answer.")] = 32,
    max_mb: Annotated[float, Option(help="Most text, in million characters.")] = 16.0,
    device: Annotated[str, Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Answer a question from your documents, and name file and place of what the answer rests on.

    The index is made at the first question, kept, and made anew when a document or a dial changed.

    Example: `rawgpt ask "How long does a refund take?" --documents my_notes --model smollm2-135m`
    """
    from gpt.config import from_mapping
    from gpt.rag.config import MIN_COVERAGE, AnswerConfig, ChunkConfig, IndexConfig, default_min_coverage

    chunk = ChunkConfig(max_tokens=chunk_tokens, overlap_tokens=chunk_tokens // 8)
    dials = {"embedding": embedding, "ranking": ranking, "kind": kind, "max_mb": max_mb}
    index_config = from_mapping(IndexConfig, dials, "ask")
    answer_config = AnswerConfig(
        n_passages=passages,
        min_coverage=MIN_COVERAGE if min_coverage is None else min_coverage,
        max_tokens=max_tokens,
    )
    if not question.strip():
        raise ValueError("question: it is empty; ask something")
    from gpt.rag.passages import read_folder

    texts = read_folder(documents, text_field=text_field, max_mb=max_mb)
    from gpt.catalog.open_to_run import open_to_run  # after the documents: a typo should not wait for torch
    from gpt.rag.answer import answer
    from gpt.rag.ready_index import ready_index

    opened = open_to_run(model, device=device)
    folder = index or _folder_of(documents)
    ready, why = ready_index(folder, texts, chunk, index_config, opened)
    if why:
        print(
            f"{folder}: {len(ready.passages):,} passages of {len(texts):,} documents ({why})", file=sys.stderr
        )
    if min_coverage is None:
        answer_config = replace(answer_config, min_coverage=default_min_coverage(len(ready.passages)))
    made = answer(question, ready, opened, answer_config)
    why_unknown = "" if made.is_known else _why_unknown(made.coverage, answer_config.min_coverage)
    if as_json:
        print(json.dumps(_as_json(question, made, opened.name, why_unknown), ensure_ascii=False))
        return 0
    print(made.text or "(the model's answer is empty)")
    for cited in made.citations:
        place = f"{cited.passage.document}:{cited.passage.line}, characters {cited.start}-{cited.end}"
        print(f"  [{cited.number}] {place} ({cited.found_by})")
        print(f"      {' '.join(cited.quote.split())}")
    if why_unknown:
        print(f"  {why_unknown}")
    elif not made.citations:
        print("  no citation: no passage holds this")
    numbered = made.numbered()
    if made.read:
        print("passages read:")
    for number, found in numbered[: len(made.read)]:
        print(f"  [{number}] {_described(found)}")
    if len(numbered) > len(made.read):
        print(
            "found, not read: no room in the model's context:" if made.read else "nearest passages, not read:"
        )
    for _, found in numbered[len(made.read) :]:
        print(f"  - {_described(found)}")
    return 0


def _described(found: Any) -> str:
    return f"{found.passage.place}, {100 * found.coverage:.0f} % of the question"


def _why_unknown(coverage: float, threshold: float) -> str:
    """Say why no model was asked, and what to type."""
    why = f"the nearest passage holds {100 * coverage:.1f} % of the question's weight, "
    why += f"less than {100 * threshold:g} %" if coverage else "not a word of it, nor a piece of one"
    return f"{why}; to ask the model all the same: --min-coverage 0"


def _folder_of(documents: Path) -> Path:
    """Return where the index of a folder is kept: named after it and its place."""
    from gpt.corpus.registry import CACHE_DIR

    place = documents.resolve()
    return CACHE_DIR / "rag" / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"


def _as_json(question: str, made: Any, model: str, why_unknown: str) -> dict[str, Any]:
    """Return the answer for machines."""
    from gpt.rag.illustrate import citations_of

    return {
        "question": question,
        "answer": made.text,
        "is_known": made.is_known,
        "why_unknown": why_unknown,
        "model": model,
        "citations": citations_of(made),
        "passages": [
            {
                "number": number,
                "document": found.passage.document,
                "line": found.passage.line,
                "start": found.passage.start,
                "end": found.passage.end,
                "coverage": round(found.coverage, 4),
                "text": found.passage.text,
            }
            for number, found in made.numbered()
        ],
    }
