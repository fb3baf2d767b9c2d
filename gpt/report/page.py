"""results.json as one HTML page: no script, no network, every picture drawn inline.

A pure function of the results: the page can be drawn again from the JSON alone. Everything that a model,
a data set or a dial wrote is escaped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gpt.report.artefacts import is_absent
from gpt.report.bar_chart import Bar, bar_chart
from gpt.report.heat_chart import heat_chart
from gpt.report.line_chart import Series, line_chart, short_number
from gpt.report.metric_names import metric_name
from gpt.report.plain_text import printable
from gpt.report.retrieval import retrieval_tables

RUNG_NAMES = {"single_head": "single head", "multi_head": "multi head", "mlp": "MLP"}


def render_page(results: Mapping[str, Any]) -> str:
    """Return the page. Raises jinja2's UndefinedError when the results lack a key that it shows."""
    environment = Environment(
        loader=PackageLoader("gpt.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "short": short_number,
        "score": lambda value: f"{value:#.4g}",
        "figure": lambda value: f"{value:.4g}",
        "seconds": words_of_seconds,
        "bytes": words_of_bytes,
        "printable": printable,
        "plural": lambda noun: f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s",
        "short_hash": lambda value: value[:16] if value else "none",
    }
    environment.tests["absent"] = is_absent
    return environment.get_template("page.html").render(
        r=results,
        scores=None if is_absent(results["scores"]) else score_table(results["scores"]),
        demo_scores=score_table(results["demo"]["figures"]),
        demo_prompts=list(dict.fromkeys(answer["prompt"] for answer in results["demo"]["answers"])),
        prompts=list(dict.fromkeys(sample["prompt"] for sample in results["samples"])),
        ladder_chart=None if is_absent(results["ladder"]) else ladder_chart(results["ladder"]),
        training_charts=[training_chart(training) for training in results["training"]],
        rise_chart=rise_chart(results["quantization"].get("methods", [])),
        retrieval=None if is_absent(results["retrieval"]) else retrieval_tables(results["retrieval"]),
        heads=[] if is_absent(results["heatmaps"]) else head_charts(results["heatmaps"]),
        rung_names=RUNG_NAMES,
        longest_s=max([stage["time_s"] or 0 for stage in results["stages"]], default=0) or 1,
    )


def score_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn rows into a table: a line a metric, a cell a model, and the reasons of what is absent."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        cells = {row["model"]: row for row in rows if row["metric"] == metric}
        first = next(iter(cells.values()))
        ns = sorted({row["n"] for row in cells.values() if row["value"] is not None})
        lines.append(
            {
                "metric": metric,
                "name": metric_name(metric),
                "is_synthetic": first["is_synthetic"],
                "unit": first["unit"],
                "chance": first.get("chance"),
                "n": " / ".join(f"{n:,}" for n in ns) if ns else None,
                "cells": [cells.get(model) for model in models],
            }
        )
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["value"] is None:
            where = reasons.setdefault(f"{row['absent']}", [])
            where += [row["metric"]] if row["metric"] not in where else []
    return {"models": models, "lines": lines, "reasons": reasons}


def ladder_chart(ladder: Mapping[str, Any]) -> Markup:
    """Draw each rung's validation loss over its steps."""
    rungs = [rung["rung"] for rung in ladder["rungs"]]
    series = []
    for color, rung in enumerate(rungs):
        rows = [row for row in ladder["curves"] if row["rung"] == rung and row["val_loss"] is not None]
        points = [(float(row["step"]), row["val_loss"]) for row in rows]
        series.append(Series(name=RUNG_NAMES.get(rung, rung), points=points, has_dots=True, color=color))
    return line_chart(series, x_label="step", y_label="nats per character")


def training_chart(training: Mapping[str, Any]) -> Markup:
    """Draw a stage's training loss, pale, and its validation loss."""
    lines = {
        name: [
            (float(row.get("tokens") or row["step"]), row[name])
            for row in training["curve"]
            if row.get(name) is not None
        ]
        for name in ("loss", "val_loss")
    }
    series = [
        Series(name="training", points=lines["loss"], is_faint=True, color=1),
        Series(name="validation", points=lines["val_loss"], has_dots=True, color=0),
    ]
    return line_chart(series, x_label="tokens", y_label="nats per token")


def rise_chart(methods: Any) -> Markup:
    """Draw by how much each method raises the float model's perplexity; nothing where they are absent."""
    rows = (
        [] if is_absent(methods) else [row for row in methods if "rise" in row and row["method"] != "float"]
    )
    bars = [
        Bar(name=row["method"], value=row["rise"], stderr=row["rise_stderr"], text=f"{row['rise']:+.2%}")
        for row in rows
    ]
    return bar_chart(bars, label="rise of perplexity over the float model")


def head_charts(heatmaps: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw every head; layers and heads count from 0, as in the tensor names."""
    return [
        {
            "title": f"layer {head['layer']}, head {head['head']}",
            "chart": heat_chart(heatmaps["tokens"], head["weights"]),
        }
        for head in heatmaps["heads"]
    ]


def words_of_seconds(value: float | None) -> str:
    """Return a duration for people; the stage's own word for an unknown one."""
    if value is None:
        return "not run"
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def words_of_bytes(value: float) -> str:
    """Return a size in the largest binary unit that keeps it at 1 or more."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
