"""gpt/report/demo.py: who takes part, what is shown of them, who is missing and why."""

from typing import Any

import pytest

from gpt.report.demo import gather_demo, is_shown

BASE, TUNED, PACKED, ALIGNED = (letter * 64 for letter in "abcd")
MODELS = [
    {"model": "pretrain", "sha256": BASE},
    {"model": "scale-dense", "sha256": "e" * 64},
    {"model": "finetune", "sha256": TUNED},
    {"model": "align-dpo", "sha256": ALIGNED},
    {"model": "quantize", "sha256": PACKED},
]
SCORES = [
    {"model": model, "metric": metric, "value": 1.0}
    for model in ("pretrain", "scale-dense", "finetune")
    for metric in (
        "bits_per_byte",
        "words_hinglish",
        "intent_x_acc",
        "intent_x_acc_norm_char",
        "hellaswag_acc",
    )
]


def demo(**changes: Any) -> dict[str, Any]:
    """Gather a demo of the models above."""
    given: dict[str, Any] = {
        "answers": [],
        "models": MODELS,
        "scores": SCORES,
        "folders": {},
        "metrics": {"finetune": {"trainable_parameters": 3, "parameters": 40}},
        "stages": ["pretrain", "finetune", "align-dpo"],
        "base": BASE,
    }
    return gather_demo(**(given | changes))


def test_base_tuned_and_aligned_take_part() -> None:
    """Guards: a grown model shown as the base, figures of a model that is not shown, a rule shown twice."""
    found = demo()
    assert found["models"] == ["pretrain", "finetune", "align-dpo"]
    assert found["missing"] == []
    assert found["updated"] == {"trainable_parameters": 3, "parameters": 40}
    assert [(row["model"], row["metric"]) for row in found["figures"]] == [
        (model, metric)
        for model in ("pretrain", "finetune")
        for metric in ("bits_per_byte", "words_hinglish", "intent_x_acc")
    ]
    assert not is_shown("scale-dense", "e" * 64, BASE)
    assert not is_shown("scale-dense", "e" * 64, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stages": ["pretrain", "finetune"]}, "There is no stage align in this pipeline."),
        ({"stages": ["finetune", "align-dpo", "align-ppo"]}, "align-ppo left no checkpoint"),
        ({"base": "f" * 64}, "The base of finetune is no stage of this pipeline"),
    ],
)
def test_who_is_missing_is_said(changes: dict[str, Any], reason: str) -> None:
    """Guards: a column that vanishes without a word, or a complaint about a stage that nobody has."""
    (said,) = demo(**changes)["missing"]
    assert reason in said


def test_absent_scores_leave_the_answers() -> None:
    """Guards: a demo that fails because evaluate has not run."""
    found = demo(scores={"absent": "not run"}, metrics={"finetune": {"absent": "x"}})
    assert found["figures"] == []
    assert found["updated"] is None
