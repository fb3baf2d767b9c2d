"""The demo: the same questions to the base, the tuned and the aligned models, and what was measured of them.

A model that is not there is named with the reason: the stage is not in this pipeline, or left no checkpoint.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt.report.artefacts import is_absent, read_json
from gpt.report.models import TUNED_BY

FIGURES = ("words_", "bits_per_byte", "intent_", "canaries_")
"""Beginnings of the metrics that stand above the answers; intents by one rule, `acc`."""


def base_sha256(folders: Mapping[str, Path]) -> str | None:
    """Return the hash of the model that was fine-tuned, as the tuned checkpoint names it."""
    if "finetune" not in folders:
        return None
    info = read_json(folders["finetune"] / "checkpoint/config.json")
    return None if is_absent(info) else info.get("parent_sha256") or info.get("base_sha256")


def is_shown(label: str, sha256: str, base: str | None) -> bool:
    """Return whether a model takes part: the base, what was tuned from it, what was aligned."""
    return sha256 == base or label.startswith(TUNED_BY)


def gather_demo(
    answers: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    scores: Any,
    folders: Mapping[str, Path],
    metrics: Mapping[str, Any],
    stages: Sequence[str],
    base: str | None,
) -> dict[str, Any]:
    """Return the answers by prompt, the figures of the same models, and who is missing and why.

    `stages` are the labels of the pipeline's stages, `models` the rows of those that were opened.
    """
    shown = [row["model"] for row in models if is_shown(row["model"], row["sha256"], base)]
    rows = [] if is_absent(scores) else scores
    missing = []
    if base is not None and base not in {row["sha256"] for row in models}:
        missing.append("The base of finetune is no stage of this pipeline: its answers are not here.")
    for kind in TUNED_BY:
        wanted = [label for label in stages if label.startswith(kind)]
        if not wanted:
            missing.append(f"There is no stage {kind} in this pipeline.")
        missing += [f"{label} left no checkpoint; run `dvc repro`." for label in wanted if label not in shown]
    tuned = metrics.get("finetune", {})
    updated = {key: tuned[key] for key in ("trainable_parameters", "parameters") if key in tuned}
    return {
        "models": shown,
        "updated": updated if len(updated) == 2 else None,
        "figures": [
            row
            for row in rows
            if row["model"] in shown
            and row["metric"].startswith(FIGURES)
            and not row["metric"].endswith("_acc_norm_char")
        ],
        "answers": list(answers),
        "missing": missing,
    }
