"""results.json: everything the page shows, gathered once from the stages' folders.

The page is drawn from this alone, so that whatever a person reads there a machine reads here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt.report.artefacts import FORMAT, absent, is_absent, read_curve, read_json
from gpt.report.config import ReportConfig
from gpt.report.demo import base_sha256, gather_demo, is_shown
from gpt.report.heatmaps import draw_heads
from gpt.report.metric_names import metric_name
from gpt.report.models import describe, draw_answers, draw_samples, open_models
from gpt.report.pipeline import PipelineStage, lock_sha256, read_stages, recorded_dials, seeds_of
from gpt.report.retrieval import gather_retrieval

SECONDS_PER_HOUR = 3600


def gather(
    folders: Mapping[str, Path],
    dvc_yaml: Path,
    config: ReportConfig,
    *,
    tags: Mapping[str, str],
    base_path: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return the results of one run.

    `folders` maps a stage's label to its folder, in the DAG's order; `tags` names git, machine and
    versions; `base_path` is the model that was fine-tuned: `base` in the results, if it is no stage's.
    Raises ValueError for a damaged artefact; a missing one is an absence in the results.
    """
    stages = read_stages(dvc_yaml)
    lock = dvc_yaml.with_name("dvc.lock")
    dials = recorded_dials(lock, stages)
    metrics = {label: read_json(folder / "metrics.json") for label, folder in folders.items()}
    base = base_sha256(folders)
    models, samples, answers, heatmaps = _meet_models(folders, config, base_path, base, device)
    logs = metrics.get("logs", absent("there is no stage logs"))
    scores = _scores(folders, logs)
    labels = [stage.label for stage in stages]
    return {
        "format": FORMAT,
        "run": {
            **tags,
            "dvc_lock_stages_sha256": lock_sha256(lock, without="report"),
            "seeds": _seeds(dials) | {"report.seed": config.seed},
        },
        "models": models,
        "scores": scores,
        "demo": gather_demo(answers, models, scores, folders, metrics, labels, base),
        "data": _data(folders, metrics),
        "ladder": _ladder(folders, metrics),
        "training": [
            _training(label, folders[label], metrics[label], dials)
            for label in folders
            if (folders[label] / "curve.csv").is_file()
        ],
        "samples": samples,
        "heatmaps": heatmaps,
        "retrieval": gather_retrieval(folders),
        "quantization": _quantization(folders, metrics, dials),
        "enclave": _enclave(folders, metrics),
        "logs": logs,
        **_costs(stages, metrics, config.dollars_per_hour),
    }


def _meet_models(
    folders: Mapping[str, Path],
    config: ReportConfig,
    base_path: Path | None,
    base: str | None,
    device: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Open each model once: its row, its samples, its part in the demo, and of the first one the heatmaps."""
    models: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    heatmaps = absent("no model has been trained")
    for label, checkpoint, opened in open_models(folders, base_path, device):
        if not models:
            heatmaps = draw_heads(opened, config.heatmap_text, config.heatmap_heads)
        models.append(describe(label, checkpoint, opened, models))
        samples += draw_samples(label, opened, config)
        if is_shown(label, opened.sha256, base):
            as_chat = models[-1]["is_tuned"] or label == "base"
            answers += draw_answers(label, opened, as_chat, config)
    return models, samples, answers, heatmaps


def _scores(folders: Mapping[str, Path], logs: dict[str, Any]) -> Any:
    """Return the rows of scores.json with what each is measured on, and whether that is synthetic."""
    if "evaluate" not in folders:
        return absent("there is no stage evaluate")
    rows = read_json(folders["evaluate"] / "scores.json")
    if is_absent(rows):
        return rows
    has_synthetic = bool(logs.get("n_synthetic", 0))
    scores = []
    for row in rows:
        name = metric_name(row["metric"])
        is_synthetic = (name.on == "logs" and has_synthetic) or name.on in ("canaries", "generated queries")
        scores.append(row | {"on": name.on, "is_synthetic": is_synthetic})
    return scores


def _data(folders: Mapping[str, Path], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the corpus, its licence, the extra sets found and absent, and the token counts."""
    folder = folders.get("fetch")
    sources = read_json(folder / "files/sources.json") if folder else absent("there is no stage fetch")
    counts = {label: metrics[label] for label in ("fetch", "tokenize", "shard") if label in metrics}
    return {"sources": sources, "counts": counts}


def _ladder(folders: Mapping[str, Path], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return each rung's loss and size, the bigram's two estimates, and the curves."""
    scores = metrics.get("ladder", absent("there is no stage ladder"))
    if is_absent(scores):
        return scores
    names = [key.removesuffix("_parameters") for key in scores if key.endswith("_parameters")]
    curves = read_curve(folders["ladder"] / "curves.csv")
    order = list(dict.fromkeys(row["rung"] for row in curves))
    rungs = [
        {"rung": name, "val_loss": scores[name], "parameters": scores[f"{name}_parameters"]}
        for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    ]
    others = ("symbols", "uniform", "bigram_one_batch", "bigram_full")
    return {"rungs": rungs, "curves": curves, **{key: scores[key] for key in others if key in scores}}


def _training(label: str, folder: Path, metrics: Any, dials: Mapping[str, Any]) -> dict[str, Any]:
    """Return one training stage: its metrics, its curve, and how many tokens a validation sees."""
    train = dials.get(label, {}).get("train")
    n = train["eval_batches"] * train["micro_batch_size"] * train["seq_len"] if train else None
    return {
        "stage": label,
        "metrics": metrics,
        "validation_positions": n,
        "seed": train["seed"] if train else None,
        "curve": read_curve(folder / "curve.csv"),
    }


def _quantization(
    folders: Mapping[str, Path], metrics: Mapping[str, Any], dials: Mapping[str, Any]
) -> dict[str, Any]:
    """Return sizes and perplexities, with the dials they were made with where DVC recorded them, and every
    method's row with its time."""
    found = metrics.get("quantize", absent("there is no stage quantize"))
    if is_absent(found):
        return found
    methods: Any = absent("there is no stage quantize_report")
    if "quantize_report" in folders:
        methods = read_json(folders["quantize_report"] / "methods.json")
        times = metrics["quantize_report"]
        if not is_absent(methods):
            methods = [row | {"ms_per_token": times.get(f"ms_per_token_{row['method']}")} for row in methods]
    return found | {"dials": dials.get("quantize"), "methods": methods}


def _enclave(folders: Mapping[str, Path], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image's measurement, or the metrics alone where the image is not here."""
    if "package" not in folders:
        return absent("there is no stage package")
    measurement = read_json(folders["package"] / "image/measurement.json")
    return metrics["package"] if is_absent(measurement) else measurement


def _seeds(dials: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    seeds: dict[str, int] = {}
    for label, section in dials.items():
        if label != "report":
            seeds |= seeds_of(section, label)
    return seeds


def _costs(
    stages: list[PipelineStage], metrics: Mapping[str, Any], dollars_per_hour: float
) -> dict[str, Any]:
    """Return time and cost of every stage that left a time, in the order of dvc.yaml, and their sums.

    The report's own time is not in it: it is not over yet.
    """
    rows = []
    for stage in stages:
        time_s = metrics.get(stage.label, {}).get("time_s")
        cost = None if time_s is None else round(time_s / SECONDS_PER_HOUR * dollars_per_hour, 6)
        row = {"stage": stage.label, "description": stage.description, "time_s": time_s, "dollars": cost}
        if stage.label != "report":
            rows.append(row)
    known = [row for row in rows if row["time_s"] is not None]
    return {
        "stages": rows,
        "total_time_s": round(sum(row["time_s"] for row in known), 1),
        "total_dollars": round(sum(row["dollars"] for row in known), 6),
        "dollars_per_hour": dollars_per_hour,
    }
