"""`rawgpt summary`: what the last run made, read from reports/results.json: the end of `make repro`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rawgpt.exit_codes import EXIT_GOOD

RESULTS = Path("reports/results.json")
REPORT = Path("reports/report.html")
WIDTH = 80
SAMPLE_CHARS = 320


def summary() -> int:
    """Show what the last run made, on one screen.

    A sample, each model's figures with their standard errors, the time of every stage, and the path of the
    report. Reads reports/results.json; opens no model.

    Example: `rawgpt summary`
    """
    results = read_results(RESULTS)
    console = Console(width=WIDTH, highlight=False)
    _print_sample(console, results["samples"])
    if isinstance(results["scores"], list):
        console.print(score_table(results["models"], results["scores"]))
        _print_notes(console, results)
    else:
        console.print(Text(f"no scores: {results['scores']['absent']}"))
    console.print(time_table(results))
    console.print(Text(f"\nreport: {REPORT if REPORT.is_file() else 'gone; run `dvc repro -f report`'}"))
    return EXIT_GOOD


def read_results(path: Path) -> dict[str, Any]:
    """Return results.json; raises ValueError that says what to type when there is none."""
    from gpt.report.artefacts import FORMAT

    if not path.is_file():
        raise ValueError(f"{path}: not made yet; run `dvc repro`")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path}: damaged; run `dvc repro -f report`") from None
    found = results.get("format") if isinstance(results, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: format {found!r}, {FORMAT!r} is read; run `dvc repro -f report`")
    return results


def score_table(models: list[dict[str, Any]], scores: list[dict[str, Any]]) -> Table:
    """Return a line a model, a column a headline metric; absent figures say so."""
    from gpt.report.metric_names import HEADLINES

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    table.add_column("parameters", justify="right")
    cells = {(row["model"], row["metric"]): row for row in scores}
    for metric, title in HEADLINES.items():
        ns = {row["n"] for row in scores if row["metric"] == metric and row["value"] is not None}
        unit = next((row["unit"] for row in scores if row["metric"] == metric), "")
        n = "/".join(map(str, sorted(ns)))
        table.add_column(f"{title}\n{n} {unit}s" if ns else title, justify="right")
    for model in models:
        name = model["model"]
        figures = [_figure(cells.get((name, metric))) for metric in HEADLINES]
        table.add_row(name, f"{model['parameters']:,}", *figures)
    return table


def time_table(results: Mapping[str, Any]) -> Table:
    """Return the seconds of each stage that ran, and their sum; dollars where an hour has a price."""
    has_price = results["dollars_per_hour"] > 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("time", justify="right")
    if has_price:
        table.add_column("cost", justify="right")
    known = [row for row in results["stages"] if row["time_s"] is not None]
    total = {"stage": "all", "time_s": results["total_time_s"], "dollars": results["total_dollars"]}
    for row in [*known, total]:
        price = [f"${row['dollars']:.4f}"] if has_price else []
        table.add_row(row["stage"], f"{row['time_s']:,.1f} s", *price)
    return table


def _print_sample(console: Console, samples: list[dict[str, Any]]) -> None:
    """Print the first sample, without what a terminal would obey."""
    from gpt.report.plain_text import printable

    if not samples:
        console.print("no sample: no model has been trained\n")
        return
    sample = samples[0]
    shown = printable(f"{sample['prompt']}{sample['text']}")
    if len(shown) > SAMPLE_CHARS:
        shown = shown[:SAMPLE_CHARS].rstrip() + " ..."
    console.print(Text(f"{sample['model']}, seed {sample['seed']}:", style="bold"))
    console.print(Text(shown + "\n"))


def _print_notes(console: Console, results: Mapping[str, Any]) -> None:
    """Say what the errors are, which figures are on synthetic data, and why some are absent."""
    from gpt.report.metric_names import HEADLINES

    rows = [row for row in results["scores"] if row["metric"] in HEADLINES]
    notes = "± one standard error."
    if any(row["is_synthetic"] for row in rows):
        notes += " logs loss: on synthetic logs."
    reasons = {row["absent"]: HEADLINES[row["metric"]] for row in rows if row["value"] is None}
    for reason, title in reasons.items():
        notes += f" {title} absent: {reason}."
    console.print(Text(notes + "\n", style="dim"))


def _figure(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "absent"
    return f"{row['value']:.3f}" + ("" if row["stderr"] is None else f" ±{row['stderr']:.3f}")
