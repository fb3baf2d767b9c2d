"""The stage rag end to end, on and off, on a tiny corpus; and `rawgpt ask` on its model."""

import json
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from gpt.model.config import ModelConfig
from gpt.rag.config import FEW_PASSAGES, MIN_COVERAGE
from gpt.rag.index import open_index
from gpt.tokenizer.tokenizer import Tokenizer
from rawgpt.ask import ask
from rawgpt.main import run
from tests.generate.tiny_checkpoint import save_tiny
from tests.stages.conftest import ROOT, run_stage
from tests.stages.machine import MACHINE

FLAGS = ("--files", "files", "--model", "tiny", "--out", "models/rag")


def write_params(**changes: object) -> None:
    """Write the smoke profile's section with changes."""
    section = yaml.safe_load((ROOT / "conf/smoke.yaml").read_text())["rag"]
    section |= {"model": "tiny", "n_questions": 4, "max_passages": 20} | changes
    section["chunk"] = {"max_tokens": 200, "overlap_tokens": 0}
    section["answer"]["min_coverage"] = 0.0
    Path("params.yaml").write_text(yaml.safe_dump({"machine": MACHINE, "rag": section}))


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer
) -> Path:
    """A fetch folder with one validation document, and a model of random weights."""
    monkeypatch.chdir(tmp_path)
    text = " ".join(f"Shall I compare a{i} thee to a summer's day, number b{i}?" for i in range(60))
    Path("files").mkdir()
    document = {"id": "sonnet.txt", "text": text, "split": "val"}
    Path("files/documents.jsonl").write_text(json.dumps(document) + "\n")
    save_tiny(tmp_path / "tiny", modern, tokenizer, max_seq_len=512, never_stops=True)
    return tmp_path


def test_on_it_measures_and_keeps_its_index(folder: Path) -> None:
    """Guards: a result without its n, an index that cannot be opened, a result that varies."""
    write_params()
    assert run_stage("rag", *FLAGS) == 0
    out = Path("models/rag")
    first = (out / "results.json").read_bytes()
    results = json.loads(first)
    assert results["is_on"]
    assert results["is_synthetic"]
    assert results["answers"]["retrieved_minus_without"]["nats"]["n"] == 4
    assert set(results["retrieval"]) == {"dense", "bm25", "rerank", "fusion"}
    assert len(results["examples"]) == 3
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["recall_at_1"] == results["retrieval"]["rerank"]["recall_at_1"]["value"]
    index = open_index(out / "index")
    assert len(index.passages) == metrics["n_passages"]
    assert run_stage("rag", *FLAGS) == 0
    assert (out / "results.json").read_bytes() == first


def test_off_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a stage whose outs are missing when it is off, which DVC takes for a failure; figures of a run
    that did not happen; a set that is not there taken for an empty one."""
    write_params(documents="none")
    assert run_stage("rag", *FLAGS) == 0
    metrics = json.loads(Path("models/rag/metrics.json").read_text())
    assert set(metrics) == {"is_on", "time_s"}
    assert not metrics["is_on"]
    results = json.loads(Path("models/rag/results.json").read_text())
    assert results == {"is_on": False, "why": results["why"]}
    assert "set it to corpus or xquad" in results["why"]
    assert list(Path("models/rag/index").iterdir()) == []
    write_params(documents="xquad")
    assert run_stage("rag", *FLAGS) == 1
    assert "add xquad to fetch.extras" in capsys.readouterr().err


def test_ask_makes_keeps_and_renews_its_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: an index made again at each question, or kept after a document changed; a citation without its
    place; an unknown answered."""
    notes = Path("notes")
    notes.mkdir()
    (notes / "fees.txt").write_text("First line.\nThe card fee is 200 rupees.")
    (notes / "days.md").write_text("A refund takes three days.")
    command = ["ask", "What is the card fee?", "--documents", "notes", "--model", "tiny", "--max-tokens", "3"]

    def ask(*more: str) -> tuple[str, str]:
        assert run([*command, "--min-coverage", "0.01", *more]) == 0
        return capsys.readouterr()

    out, err = ask()
    assert "2 passages of 2 documents (made)" in err
    assert "[1] fees.txt:1 (characters 0-39)" in out
    assert "passages" not in ask()[1]
    (notes / "days.md").write_text("A refund takes four days.")
    assert "(made anew: days.md changed)" in ask()[1]
    answer = json.loads(ask("--json")[0])
    assert answer["passages"][0]["text"] == "First line.\nThe card fee is 200 rupees."
    assert run([*command, "--min-coverage", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("I do not know")
    assert "nearest passages, not read" in out
    assert (
        "% of the question's weight, less than 100 %; to ask the model all the same: --min-coverage 0" in out
    )
    assert "hidden" not in ask("--embedding", "hidden")[0]


def test_ask_answers_from_three_notes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: README's own example refused by a threshold meant for many passages; a named threshold that a
    small folder overrules; a refusal that does not say what to type."""
    notes = Path("notes")
    notes.mkdir()
    (notes / "refunds.txt").write_text("Refunds are paid back within five working days.")
    (notes / "cards.txt").write_text("A card costs 200 rupees.")
    (notes / "hours.txt").write_text("We open at nine.")

    def ask(question: str, *more: str) -> str:
        command = ["ask", question, "--documents", "notes", "--model", "tiny", "--max-tokens", "3"]
        assert run([*command, *more]) == 0
        return capsys.readouterr().out

    out = ask("How long does a refund take?")
    assert "I do not know" not in out
    assert "passages read:\n  [1] refunds.txt:1" in out
    assert ask("How long does a refund take?", "--min-coverage", "0.15").startswith("I do not know")
    out = ask("Zzz?")
    assert out.startswith("I do not know")
    assert "holds 0.0 % of the question's weight, not a word of it, nor a piece of one; to ask" in out
    answer = json.loads(ask("Zzz?", "--json"))
    assert answer["why_unknown"].endswith("--min-coverage 0")
    assert answer["passages"][0]["number"] is None


def test_ask_names_what_was_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a passage without room in the prompt listed among those read, under a citation's number."""
    notes = Path("notes")
    notes.mkdir()
    (notes / "long.txt").write_text("The card fee, the card fee! " * 30)
    (notes / "short.txt").write_text("A fee is 200 rupees.")
    command = ["ask", "What is the card fee?", "--documents", "notes", "--model", "tiny"]
    assert run([*command, "--chunk-tokens", "2000"]) == 0
    out = capsys.readouterr().out
    assert "passages read:\n  [1] short.txt:1" in out
    assert "found, not read: no room in the model's context:\n  - long.txt:1" in out
    assert run([*command, "--chunk-tokens", "2000", "--json"]) == 0
    passages = json.loads(capsys.readouterr().out)["passages"]
    assert [(one["number"], one["document"]) for one in passages] == [(1, "short.txt"), (None, "long.txt")]


def test_ask_s_help_names_its_thresholds() -> None:
    """Guards: a help text that a changed constant leaves behind."""
    (option,) = get_type_hints(ask, include_extras=True)["min_coverage"].__metadata__
    assert f"By default {MIN_COVERAGE:g}, and of fewer than {FEW_PASSAGES} passages" in option.help


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--documents", "nowhere"], "documents: nowhere: no such file or folder"),
        (["--ranking", "best"], "ranking: got 'best'; choose one of dense, bm25, rerank, fusion"),
        (["--chunk-tokens", "2"], "max_tokens: at least 8"),
        (["--max-mb", "0.00001"], "raise max_mb"),
        (["--index", "files"], "index: files is there and is no index"),
    ],
)
def test_ask_says_what_to_type(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    """Guards: a traceback where a path or a dial is wrong, a folder of the user's that is written over."""
    command = ["ask", "Who?", "--documents", "files/documents.jsonl", "--model", "tiny", *more]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
