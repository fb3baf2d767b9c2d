"""What a flow run shows at its end: the metrics files that it changed, as a Markdown table."""

import json
from pathlib import Path

PATTERNS = ("data/*/metrics.json", "models/*/metrics.json")


def read_metrics(root: Path) -> dict[str, str]:
    """Return {folder: text of its metrics.json} for every stage that has one."""
    files = sorted(file for pattern in PATTERNS for file in root.glob(pattern))
    return {file.parent.relative_to(root).as_posix(): file.read_text() for file in files}


def changes_table(before: dict[str, str], after: dict[str, str]) -> str:
    """Return a Markdown table of the metrics that a run changed, with their former values."""
    rows = []
    for folder, text in sorted(after.items()):
        if before.get(folder) == text:
            continue
        old, new = json.loads(before.get(folder, "{}")), json.loads(text)
        for name, value in sorted(new.items()):
            rows.append(f"| {folder} | {name} | {_cell(old.get(name))} | {_cell(value)} |")
    if not rows:
        return "No stage changed its metrics: everything was up to date."
    return "\n".join(["| stage | metric | before | now |", "|---|---|---|---|", *rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")
