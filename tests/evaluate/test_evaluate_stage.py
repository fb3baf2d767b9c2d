"""compare and the stage evaluate, end to end on tiny inputs."""

import dataclasses
import json
from pathlib import Path

import pytest

from gpt.checkpoint.save_load import open_checkpoint
from gpt.evaluate.compare import HEADLINES
from gpt.evaluate.config import EvaluateConfig
from gpt.quantize.methods import quantize_nearest
from gpt.quantize.save import save_quantized
from stages.evaluate import MODELS, evaluate
from stages.runner import StageRun
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_run

CONFIG = EvaluateConfig(
    seq_len=32,
    n_windows=6,
    n_logs=0,
    n_continuation=5,
    context_chars=40,
    ending_chars=12,
    n_hellaswag=2,
    n_intents=6,
    n_canaries=5,
    canary_tokens=4,
    batch_tokens=256,
    seed=0,
)


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    folders = {}
    for seed, name in enumerate(MODELS):
        n_experts = 4 if name == "scale_moe" else 0
        model = tiny_model(seed, n_experts=n_experts)
        folders[name] = save_tiny(tmp_path / name / "checkpoint", model)
    model = tiny_model(3)
    quantize_nearest(model, QUANTIZE_CONFIG)
    parent = open_checkpoint(folders["finetune"])
    folders["quantize"] = tmp_path / "packed" / "checkpoint"
    save_quantized(folders["quantize"], model, parent, QUANTIZE_CONFIG, stage="quantize")
    return tiny_run(tmp_path, folders | {"base": folders["pretrain"]})


def test_scores_of_every_model(run: StageRun) -> None:
    """Same metrics and n for every model, HellaSwag absent with its reason, twice the same.

    Guards a benchmark that vanishes in silence and models measured on different samples.
    """
    metrics = evaluate.run(CONFIG, run)
    rows = json.loads((run.out / "scores.json").read_text())
    by_model = {name: [row for row in rows if row["model"] == name] for name in {r["model"] for r in rows}}
    assert sorted(by_model) == sorted(name.replace("_", "-") for name in MODELS)
    product = {
        "words_all": 2,
        "words_other": 2,
        "intent_tiny_acc": 6,
        "intent_tiny_acc_norm_char": 6,
        "canaries_greedy": 5,
        "canaries_sampled": 5,
    }
    shapes = set()
    for name, some in by_model.items():
        asked = {r["metric"]: r["n"] for r in some}
        assert {m: n for m, n in asked.items() if m in product} == (
            {} if name.startswith("scale") else product
        )
        shapes.add(tuple((m, n) for m, n in asked.items() if m not in product))
    assert len(shapes) == 1
    for row in rows:
        if row["metric"].startswith("hellaswag"):
            assert row["value"] is None
            assert "not fetched" in row["absent"]
        else:
            assert row["value"] is not None
            assert row["n"] > 0
    assert {row["n"] for row in rows if row["metric"] == "loss"} == {6}
    assert {row["n"] for row in rows if row["metric"] == "continuation_acc"} == {5}
    assert set(metrics) == {
        name for name in HEADLINES if not name.startswith(("hellaswag", "intent", "words"))
    }
    (bpb,) = [r["value"] for r in by_model["quantize"] if r["metric"] == "bits_per_byte"]
    assert metrics["bpb_quantized"] == round(bpb, 4)
    first = (run.out / "scores.json").read_bytes()
    evaluate.run(CONFIG, run)
    assert (run.out / "scores.json").read_bytes() == first


def test_a_base_from_outside_is_measured_too(run: StageRun, tmp_path: Path) -> None:
    """Guards: a before and after whose `before` is the toy that was pretrained beside, and not the base."""
    base = save_tiny(tmp_path / "elsewhere/checkpoint", tiny_model(9))
    outside = dataclasses.replace(run, inputs=run.inputs | {"base": base})
    metrics = evaluate.run(CONFIG, outside)
    rows = json.loads((run.out / "scores.json").read_text())
    assert rows[0]["model"] == "base"
    found = {(r["model"], r["metric"]): r["value"] for r in rows}
    assert found["base", "intent_tiny_acc"] is not None
    assert metrics["logs_loss_base"] == round(found["base", "logs_loss"], 4)
    assert metrics["logs_loss_base"] != round(found["pretrain", "logs_loss"], 4)


def test_a_base_among_the_models_is_the_one_before(run: StageRun) -> None:
    """Guards: pretrain's figures shown as those of the base, when a grown model was fine-tuned."""
    grown = dataclasses.replace(run, inputs=run.inputs | {"base": run.inputs["scale_dense"]})
    metrics = evaluate.run(CONFIG, grown)
    rows = json.loads((run.out / "scores.json").read_text())
    assert [row["model"] for row in rows].count("base") == 0
    found = {(r["model"], r["metric"]): r["value"] for r in rows}
    assert metrics["logs_loss_base"] == round(found["scale-dense", "logs_loss"], 4)
    assert found["scale-dense", "intent_tiny_acc"] is not None


def test_hellaswag_runs_when_it_is_there(run: StageRun) -> None:
    """Three records written here, two asked for; guards a set that is fetched and never read."""
    folder = run.inputs["files"] / "extra" / "hellaswag_val"
    folder.mkdir(parents=True)
    record = {
        "query": "A: the bank",
        "ctx": "the bank",
        "endings": ["paid", "upi", "so", "again"],
        "label": 1,
    }
    (folder / "hellaswag_val.jsonl").write_text((json.dumps(record) + "\n") * 3)
    metrics = evaluate.run(CONFIG, run)
    rows = json.loads((run.out / "scores.json").read_text())
    found = {r["metric"]: r["n"] for r in rows if r["metric"].startswith("hellaswag")}
    assert found == {
        "hellaswag_lm_eval_acc": 2,
        "hellaswag_lm_eval_acc_norm_char": 2,
        "hellaswag_nanogpt_acc": 2,
        "hellaswag_nanogpt_acc_norm_token": 2,
    }
    assert "hellaswag_pretrain" in metrics


def test_an_ending_beyond_the_context_is_absent(run: StageRun) -> None:
    """A choice between cut endings would be another task; the reason names the lengths."""
    folder = run.inputs["files"] / "extra" / "hellaswag_val"
    folder.mkdir(parents=True)
    record = {"query": "A", "ctx": "A", "endings": ["merchant " * 70, "upi", "so", "again"], "label": 1}
    (folder / "hellaswag_val.jsonl").write_text(json.dumps(record) + "\n")
    evaluate.run(CONFIG, run)
    rows = json.loads((run.out / "scores.json").read_text())
    reasons = {r["absent"] for r in rows if r["metric"].startswith("hellaswag")}
    assert reasons == {f"an ending of {n} tokens does not fit max_seq_len 64" for n in (70, 71)}


def test_refusals(run: StageRun) -> None:
    """A window longer than a context, and dials below zero."""
    with pytest.raises(ValueError, match=r"evaluate.seq_len: 65 is more than max_seq_len 64"):
        evaluate.run(dataclasses.replace(CONFIG, seq_len=65), run)
    with pytest.raises(ValueError, match=r"^n_logs: 0 or more"):
        dataclasses.replace(CONFIG, n_logs=-1)
