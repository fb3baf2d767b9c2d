"""The ladder's result as markdown: the tables of docs/chapters/ladder.md, compared there by a test."""

from typing import Any

from gpt.ladder.mlp import WINDOW

NAMES = {
    "bigram": "1 bigram",
    "mlp": "2 MLP",
    "single_head": "3 single head",
    "multi_head": "4 multi head",
    "block": "5 blocks",
}


def render(result: dict[str, Any]) -> str:
    """Return the tables of a result of benchmarks/ladder.py."""
    return "\n\n".join((_rungs(result), _longer(result), _bigram(result)))


def _rungs(result: dict[str, Any]) -> str:
    context = result["model"]["context"]
    sees = {"bigram": 1, "mlp": WINDOW}
    lines = [
        "| rung | sees | parameters | characters trained on | loss, whole validation text | seconds |",
        "|---|---|---|---|---|---|",
        f"| 0 a uniform guess | 0 | 0 | 0 | {result['bigram']['uniform']:.3f} | |",
    ]
    for row in result["rows"]:
        rung = row["rung"]
        lines.append(
            f"| {NAMES[rung]} | {sees.get(rung, context)} | {row['parameters']:,} | {row['tokens']:,} | "
            f"{row['val_loss']:.3f} ± {row['standard_error']:.3f} ({len(row['seeds'])} seeds) | "
            f"{row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def _longer(result: dict[str, Any]) -> str:
    short = {row["rung"]: row for row in result["rows"]}
    times = result["longer"][0]["steps"] // result["rows"][0]["steps"]
    lines = [f"| rung | loss | loss at {times} times the budget (1 seed) |", "|---|---|---|"]
    for row in result["longer"]:
        lines.append(
            f"| {NAMES[row['rung']]} | {short[row['rung']]['val_loss']:.3f} | {row['val_loss']:.3f} |"
        )
    return "\n".join(lines)


def _bigram(result: dict[str, Any]) -> str:
    found = result["bigram"]
    start, batches = found["start"], found["single_batches"]
    spread = f"{start['mean']:.3f}, standard deviation {start['standard_deviation']:.3f}"
    rows = {
        "start: ln V, a table of zeros": f"{found['uniform']:.3f}",
        "start: N(0, 1) table, by the formula": f"{start['expected']:.3f}",
        f"start: {start['n_tables']} N(0, 1) tables, mean": spread,
        "start: quoted": f"{start['quoted']:.2f}",
        "trained table": f"{result['rows'][0]['val_loss']:.3f}",
        "counted, add-1": f"{found['counted']['add-1']:.3f}",
        "counted, add-0.1": f"{found['counted']['add-0.1']:.3f}",
        "the best table there can be for this very validation text": f"{found['lowest_of_any_table']:.3f}",
        f"one batch of {batches['characters']} characters, least / median / most of {batches['n']:,}": (
            f"{batches['min']:.2f} / {batches['median']:.2f} / {batches['max']:.2f}"
        ),
        f"share of batches at or below the quoted {batches['quoted']}": (
            f"{batches['share_at_or_below_quoted']:.1%}"
        ),
    }
    lines = ["| the bigram | nats per character |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])
