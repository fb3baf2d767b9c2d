"""Which of our embeddings finds the right paragraph of XQuAD, and what is that worth to SmolLM2-135M?

    RAWGPT_DATA_MIRROR=... python -m benchmarks.retrieval

Retrieval: 1,190 questions over 240 paragraphs, and over the same with BoolQ's 2,938 passages beside them, a
paragraph being one passage. Every way ranks the same passages, BM25 of plain words is the baseline; hidden
states (a model's layers) are measured on the small set, with all questions. Refusal: how often the best
coverage is below a threshold with the right article in the index, and with its five paragraphs left out.
Answers: greedy, drawn questions, given nothing, the passages found, and the right one; a likelihood beside.
Times are CPU time of one thread. Eleven minutes with one thread beside other work, most of
it SmolLM2's.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.result_file import RESULTS, write_result
from gpt.catalog.open_model import OpenModel, open_model
from gpt.corpus.registry import fetch
from gpt.corpus.text_files import read_records
from gpt.rag.config import AnswerConfig, ChunkConfig, IndexConfig, Ranking
from gpt.rag.hidden_states import HiddenStates
from gpt.rag.illustrate import plain
from gpt.rag.index import build_index
from gpt.rag.measure import answer_question, answer_scores, rank_of, retrieval_scores
from gpt.rag.passages import Document
from gpt.rag.xquad import Question, draw, read_xquad

SEED = 8
WHOLE = ChunkConfig(max_tokens=2000, overlap_tokens=0)
"""A paragraph is one passage."""
BASE = IndexConfig()
WAYS: dict[str, IndexConfig] = {
    "BM25, words (baseline)": replace(BASE, ranking="bm25", ngram_chars=0),
    "BM25, words and 4-grams": replace(BASE, ranking="bm25"),
    "sketch of 512, FAISS": replace(BASE, ranking="dense", dims=512),
    "sketch of 2048, FAISS": replace(BASE, ranking="dense"),
    "sketch of 2048, HNSW": replace(BASE, ranking="dense", kind="hnsw"),
    "sketch of 2048, 50 sorted by BM25 (default)": BASE,
    "sketch of 2048 and BM25, reciprocal ranks": replace(BASE, ranking="fusion"),
}
HIDDEN: dict[str, Ranking] = {
    "SmolLM2's hidden states, FAISS": "dense",
    "SmolLM2's hidden states and BM25, reciprocal ranks": "fusion",
}
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3)
CONDITIONS = {
    "without": "no passage",
    "retrieved": "the passages found, at most {n_passages}",
    "right": "the right paragraph (bound)",
    "retrieved_minus_without": "found - none, paired",
}
PARTS = ("paragraphs", "distractors", "hidden", "answers")
"""What is measured; a part that is left out is not in the result, nor in the chapter."""
MARKS = ("<!-- benchmarks.retrieval -->", "<!-- end of benchmarks.retrieval -->")
CHAPTER = Path(__file__).parents[1] / "docs/chapters/rag.md"


def count_words(text: str) -> int:
    """Count words: paragraphs are whole here, so no tokenizer is needed."""
    return len(text.split())


def measure_way(
    documents: Sequence[Document],
    questions: Sequence[Question],
    config: IndexConfig,
    hidden: HiddenStates | None = None,
) -> dict[str, Any]:
    """Build, search, and take the CPU time of both."""
    started = time.process_time()
    index = build_index(documents, WHOLE, config, count_tokens=count_words, hidden=hidden)
    built = time.process_time()
    ranks = [rank_of(index, question) for question in questions]
    asked = time.process_time()
    return {
        **plain(retrieval_scores(ranks)),
        "passages": len(index.passages),
        "index_cpu_s": round(built - started, 2),
        "question_cpu_ms": round(1e3 * (asked - built) / len(questions), 2),
    }


def measure_refusal(documents: Sequence[Document], questions: Sequence[Question]) -> dict[str, Any]:
    """Return the share of questions below each threshold, with their article there and taken out."""
    index = build_index(documents, WHOLE, BASE, count_tokens=count_words)
    articles = np.array([passage.document.rpartition("#")[0] for passage in index.passages])
    present, absent = [], []
    for question in questions:
        coverage = index.bm25.scores(question.text) / index.bm25.bound(question.text)  # (N,)
        present.append(coverage.max())
        absent.append(coverage[articles != question.document.rpartition("#")[0]].max())
    below = {
        str(t): [float(np.mean(np.array(values) < t)) for values in (present, absent)] for t in THRESHOLDS
    }
    return {"n": len(questions), "below": below}


def measure_hidden(
    opened: OpenModel, documents: Sequence[Document], questions: Sequence[Question]
) -> list[dict[str, Any]]:
    """Rank by the model's hidden states, alone and beside BM25."""
    rows = []
    for way, ranking in HIDDEN.items():
        config = replace(BASE, embedding="hidden", ranking=ranking)
        hidden = HiddenStates(opened.model, opened.tokenizer)
        rows.append({"way": way, "layer": hidden.layer, **measure_way(documents, questions, config, hidden)})
    return rows


def measure_answers(
    opened: OpenModel, documents: Sequence[Document], questions: Sequence[Question], n_passages: int
) -> dict[str, Any]:
    """Ask the model every question in every condition."""
    index = build_index(documents, WHOLE, BASE, count_tokens=count_words)
    started = time.process_time()
    config = AnswerConfig(n_passages=n_passages)
    rows = [answer_question(q, index, opened, config, generates=True) for q in questions]
    cpu_s = round(time.process_time() - started, 1)
    made = {"model": opened.name, "n_passages": n_passages, "cpu_s": cpu_s}
    return {**made, "scores": plain(answer_scores(rows)), "rows": rows}


def distractors() -> list[Document]:
    """Return BoolQ's passages, each once."""
    texts = dict.fromkeys(
        str(record["query"]).partition("\nQuestion:")[0].removeprefix("Passage: ")
        for record in read_records(fetch("boolq"))
    )
    return [Document(id=f"boolq#{i}", text=text) for i, text in enumerate(texts)]


def render(result: dict[str, Any]) -> str:
    """Return the chapter's tables of what was measured."""
    tables = []
    rows = [*result["retrieval"], *result.get("hidden", [])]
    if rows:
        lines = ["| ranking | passages | first | among 5 | MRR | index, CPU s | question, CPU ms |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in rows:
            cells = [cell(row[figure]) for figure in ("recall_at_1", "recall_at_5", "mrr")]
            cells += [f"{row['index_cpu_s']:.2f}", f"{row['question_cpu_ms']:.2f}"]
            lines.append(f"| {row['way']} | {row['passages']:,} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    if "refusal" in result:
        lines = ["| coverage below | its article is there | its article is not |", "|---|---|---|"]
        for threshold, (present, absent) in result["refusal"]["below"].items():
            lines.append(f"| {threshold} | {100 * present:.1f} % | {100 * absent:.1f} % |")
        tables.append("\n".join(lines))
    if "answers" in result:
        scores = result["answers"]["scores"]
        n = scores["without"]["f1"]["n"]
        lines = [
            f"| {result['answers']['model']}, n = {n} | exact match | F1 | nats per token of the answer |"
        ]
        lines += ["|---|---|---|---|"]
        for condition, name in CONDITIONS.items():
            cells = [cell(scores[condition][figure]) for figure in ("exact_match", "f1", "nats")]
            shown = name.format(n_passages=result["answers"]["n_passages"])
            lines.append(f"| {shown} | {' | '.join(cells)} |")
        lines += ["", f"Its citations name the right paragraph in {cell(scores['citation_right'])}."]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def cell(mean: dict[str, Any]) -> str:
    """Return a mean with its standard error."""
    return f"{mean['value']:.3f} ± {mean['stderr']:.3f}"


def write_chapter(result: dict[str, Any]) -> None:
    """Put the tables between the chapter's marks."""
    text = CHAPTER.read_text(encoding="utf-8")
    head, _, rest = text.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    CHAPTER.write_text(f"{head}{MARKS[0]}\n{render(result)}\n{MARKS[1]}{tail}", encoding="utf-8")


def main() -> None:
    """Measure, write benchmarks/results/retrieval.json and the chapter's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--questions", type=int, default=60, help="that SmolLM2 answers")
    parser.add_argument(
        "--passages", type=int, default=AnswerConfig().n_passages, help="that it is given at most"
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only write the chapter's tables again")
    args = parser.parse_args()
    if args.table:
        write_chapter(json.loads((RESULTS / "retrieval.json").read_text(encoding="utf-8")))
        return
    torch.set_num_threads(args.threads)
    documents, questions = read_xquad(fetch("xquad"))
    result: dict[str, Any] = {"seed": SEED, "threads": args.threads, "questions": len(questions)}
    sets = {"paragraphs": lambda: documents, "distractors": lambda: [*documents, *distractors()]}
    result["retrieval"] = [
        {"way": way, **measure_way(make(), questions, config)}
        for part, make in sets.items()
        if part in args.parts
        for way, config in WAYS.items()
    ]
    result["refusal"] = measure_refusal(documents, questions)
    if "hidden" in args.parts:
        result["hidden"] = measure_hidden(open_model(args.model), documents, questions)
    if "answers" in args.parts:
        drawn = draw(questions, args.questions, SEED)
        result["answers"] = measure_answers(open_model(args.model), documents, drawn, args.passages)
    write_result("retrieval", result)
    write_chapter(result)


if __name__ == "__main__":
    main()
