"""The results of hinglish_before_after as the tables of docs/chapters/finetuning.md, compared by a test."""

import json
from pathlib import Path
from typing import Any

from benchmarks.result_file import RESULTS

CHAPTER = Path(__file__).parents[1] / "docs/chapters/finetuning.md"
FILES = {
    "the laptop's own base": "hinglish_before_after.json",
    "SmolLM2-135M": "hinglish_before_after_smollm2.json",
}
ARMS = ("without replay", "with replay")
BEGIN, END = (
    "<!-- tables: python -m benchmarks.hinglish_before_after --table -->\n",
    "<!-- end of tables -->\n",
)


def rewrite_chapter() -> None:
    """Put the tables of the results that are here between the chapter's two marks."""
    put_in_chapter(BEGIN, render_all(), END)


def put_in_chapter(begin: str, rendered: str, end: str) -> None:
    """Put what was rendered between two marks of the chapter."""
    head, rest = CHAPTER.read_text(encoding="utf-8").split(begin)
    _, tail = rest.split(end)
    CHAPTER.write_text(head + begin + "\n" + rendered + "\n\n" + end + tail, encoding="utf-8")


def render_all() -> str:
    """Return the tables of every result that is here."""
    parts = []
    for name, file in FILES.items():
        path = RESULTS / file
        if path.is_file():
            parts += [
                f"### {name[0].upper()}{name[1:]}",
                render(json.loads(path.read_text(encoding="utf-8"))),
            ]
    return "\n\n".join(parts) or "Not measured yet: there is no result in benchmarks/results."


def render(result: dict[str, Any]) -> str:
    """Return the tables of one result."""
    return "\n\n".join(
        (_setting(result), _words(result), _english(result), _intents(result), _canaries(result))
    )


def _setting(result: dict[str, Any]) -> str:
    row, dials = result["rows"][0], result["dials"]
    seeds = len({r["seed"] for r in result["rows"]})
    return (
        f"{row['trainable']:,} of {row['parameters']:,} parameters updated "
        f"({row['trainable'] / row['parameters']:.1%}), {dials['steps']} steps of {dials['batch_tokens']:,} "
        f"tokens, {seeds} seeds; replay is {result['replay_fraction']:.0%} of the learned tokens. "
        f"± is one standard error, of the base over records, windows or queries, "
        f"of the tuned models over seeds. {result['machine']['cpu']}, {result['threads']} threads, "
        f"{result['seconds']:.0f} s in all."
    )


def _words(result: dict[str, Any]) -> str:
    lines = [
        "| held-out logs, bits per byte | records | base | tuned, without replay | tuned, with replay |",
        "|---|---|---|---|---|",
    ]
    for name, before in result["before"].items():
        if name.startswith("bits_per_byte "):
            group = name.removeprefix("bits_per_byte ")
            synthetic = ", synthetic" if group.startswith("source generated") else ""
            lines.append(
                f"| {group}{synthetic} | {before['n']} | {_before(before, 3)} | {_after(result, name, 3)} |"
            )
    return "\n".join(lines)


def _english(result: dict[str, Any]) -> str:
    lines = [
        "| English held out from pretraining | windows | base | tuned, without replay | tuned, with replay |",
        "|---|---|---|---|---|",
    ]
    for name, title in (("english loss", "loss, nats per token"), ("english bits_per_byte", "bits per byte")):
        before = result["before"][name]
        lines.append(f"| {title} | {before['n']} | {_before(before, 4)} | {_after(result, name, 4)} |")
    loss = result["before"]["english loss"]["value"]
    changes = [f"{100 * (result['after'][arm]['english loss']['mean'] / loss - 1):+.2f} %" for arm in ARMS]
    return "\n".join([*lines, f"| change of the loss (goal: within 2 %) | | | {' | '.join(changes)} |"])


def _intents(result: dict[str, Any]) -> str:
    lines = [
        "| intent accuracy | queries | chance | base | tuned, without replay | tuned, with replay |",
        "|---|---|---|---|---|---|",
    ]
    for name, before in result["before"].items():
        if name.startswith("intent_") and name.endswith("_acc") and before["value"] is not None:
            title = name.removeprefix("intent_").removesuffix("_acc")
            title += ", synthetic" if title == "generated" else ""
            counted = f"{before['n']} | {before['chance']:.3f}"
            lines.append(f"| {title} | {counted} | {_before(before, 3)} | {_after(result, name, 3)} |")
    return "\n".join(lines)


def _canaries(result: dict[str, Any]) -> str:
    lines = [
        "| planted values brought back | of | greedily | at temperature 1 |",
        "|---|---|---|---|",
        _counts("base", result["before"]["canaries_greedy"], result["before"]["canaries_sampled"]),
    ]
    for row in result["rows"]:
        figures = row["figures"]
        title = f"tuned on scrubbed logs, {row['arm']}, seed {row['seed']}"
        lines.append(_counts(title, figures["canaries_greedy"], figures["canaries_sampled"]))
    control = result["control"]
    lines.append(_counts("control: tuned on these lines unscrubbed", *control["learned"]))
    lines.append(_counts("the same model on the others", *control["others"]))
    return "\n".join(lines)


def _counts(title: str, greedy: dict[str, Any], sampled: dict[str, Any]) -> str:
    return f"| {title} | {greedy['n']:,} | {greedy['value']:.0f} | {sampled['value']:.0f} |"


def _before(score: dict[str, Any], digits: int) -> str:
    error = "" if score["stderr"] is None else f" ± {score['stderr']:.{digits}f}"
    return f"{score['value']:.{digits}f}{error}"


def _after(result: dict[str, Any], name: str, digits: int) -> str:
    cells = []
    for arm in ARMS:
        found = result["after"][arm][name]
        error = "" if found["stderr"] is None else f" ± {found['stderr']:.{digits}f}"
        cells.append(f"{found['mean']:.{digits}f}{error}")
    return " | ".join(cells)
