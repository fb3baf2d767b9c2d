"""What the stage rag measures: is the right passage found, what is it worth to the model, three examples.

Not the way to ask about documents of one's own: that is `rawgpt ask`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt.catalog.open_model import OpenModel
from gpt.config import to_dict
from gpt.corpus.documents import read_split
from gpt.rag.answer import Answer, answer
from gpt.rag.config import RagConfig, Ranking
from gpt.rag.held_out_sentences import hold_out_sentences
from gpt.rag.hidden_states import HiddenStates
from gpt.rag.index import Index, build_index
from gpt.rag.measure import answer_question, answer_scores, is_right, rank_of, retrieval_scores
from gpt.rag.passages import take_documents
from gpt.rag.xquad import Question, draw, find_xquad, read_xquad

N_EXAMPLES = 3
RANKINGS: tuple[Ranking, ...] = ("dense", "bm25", "rerank", "fusion")
QUESTIONS = {
    "corpus": "sentences taken out of passages of the validation documents; the right passage is the one it "
    "was taken from, the answer the sentence that followed it (synthetic: made from the text itself)",
    "xquad": "XQuAD's English questions, written by people over paragraphs of Wikipedia",
}
OFF = {"is_on": False, "why": "rag.documents is none; set it to corpus or xquad and run `dvc repro rag`"}
"""The result of a stage that is turned off."""


def illustrate(config: RagConfig, files: Path, opened: OpenModel) -> tuple[Index, dict[str, Any]]:
    """Return the index and results.json. Raises ValueError for documents that are not there or too short."""

    def count_tokens(text: str) -> int:
        return len(opened.tokenizer.encode(text))

    if config.documents == "xquad":
        documents, questions = read_xquad(find_xquad(files))
    else:
        pairs = ((document["id"], document["text"]) for document in read_split(files, "val"))
        whole = take_documents(pairs, max_mb=config.index.max_mb, where=f"{files}/documents.jsonl")
        documents, questions = hold_out_sentences(
            whole,
            config.chunk,
            count_tokens,
            max_passages=config.max_passages,
            n_questions=config.n_questions,
            seed=config.seed,
        )
    hidden = HiddenStates(opened.model, opened.tokenizer) if config.index.embedding == "hidden" else None
    index = build_index(
        documents, config.chunk, config.index, count_tokens=count_tokens, hidden=hidden, model=opened.sha256
    )
    asked = draw(questions, config.n_questions, config.seed)
    is_real = config.documents == "xquad"
    rows = [answer_question(q, index, opened, config.answer, generates=is_real) for q in asked]
    return index, {
        "is_on": True,
        "documents": config.documents,
        "questions": QUESTIONS[config.documents],
        "is_synthetic": not is_real,
        "n_documents": len(documents),
        "n_passages": len(index.passages),
        "model": opened.name,
        "model_sha256": opened.sha256,
        "ranking": config.index.ranking,
        "retrieval": compare_rankings(index, questions),
        "answers": plain(answer_scores(rows)),
        "examples": [_example(q, index, opened, config) for q in draw(asked, N_EXAMPLES, config.seed)],
        "dials": to_dict(config),
    }


def compare_rankings(index: Index, questions: Sequence[Question]) -> dict[str, Any]:
    """Return every ranking's recall and reciprocal rank on one index."""
    scores: dict[str, Any] = {}
    for ranking in RANKINGS:
        other = replace(index, config=replace(index.config, ranking=ranking))
        scores[ranking] = plain(retrieval_scores([rank_of(other, question) for question in questions]))
    return scores


def plain(scores: dict[str, Any]) -> dict[str, Any]:
    """Turn means, in nested dicts, into plain JSON."""
    return {key: plain(value) if isinstance(value, dict) else to_dict(value) for key, value in scores.items()}


def headline(results: dict[str, Any]) -> dict[str, Any]:
    """Return the stage's metrics; of one that is off, that it is off."""
    if not results["is_on"]:
        return {"is_on": False}
    found = {name: mean["value"] for name, mean in results["retrieval"][results["ranking"]].items()}
    answers = {
        f"{condition}_{figure}": mean["value"]
        for condition in ("without", "retrieved", "right")
        for figure, mean in results["answers"][condition].items()
    }
    return {
        "is_on": True,
        "n_passages": results["n_passages"],
        "n_questions": results["answers"]["without"]["nats"]["n"],
        **found,
        **answers,
    }


def _example(question: Question, index: Index, opened: OpenModel, config: RagConfig) -> dict[str, Any]:
    """Return one question as a person would see it answered."""
    made = answer(question.text, index, opened, config.answer)
    return {
        "question": question.text,
        "right": list(question.answers),
        "answer": made.text,
        "is_known": made.is_known,
        "passages": [
            {
                "number": number,
                "place": found.passage.place,
                "text": found.passage.text,
                "coverage": round(found.coverage, 4),
                "is_right": is_right(found.passage, question),
            }
            for number, found in made.numbered()
        ],
        "citations": citations_of(made),
    }


def citations_of(made: Answer) -> list[dict[str, Any]]:
    """Return an answer's citations as plain JSON."""
    return [
        {
            "number": cited.number,
            "document": cited.passage.document,
            "line": cited.passage.line,
            "start": cited.start,
            "end": cited.end,
            "quote": cited.quote,
            "found_by": cited.found_by,
        }
        for cited in made.citations
    ]
