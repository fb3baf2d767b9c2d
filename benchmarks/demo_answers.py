"""The demo of a finished pipeline, kept: the same ten questions before and after.

    make profile NAME=smollm2 && dvc repro && python -m benchmarks.demo_answers
    python -m benchmarks.demo_answers --table       write docs/chapters/finetuning.md's list from the result

Nothing is chosen: every question of report.chat_prompts, one answer a model, with the report's own seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.before_after_table import put_in_chapter
from benchmarks.result_file import RESULTS, write_result

NAME = "demo_answers"
BEGIN = "<!-- answers: python -m benchmarks.demo_answers --table -->\n"
END = "<!-- end of answers -->\n"
SHOWN = ("base", "finetune")
"""The chapter's; the result has the aligned models' answers, too."""
FIGURES = ("words_all", "words_en", "words_hi", "words_hinglish")


def collect(
    results: dict[str, Any], params: dict[str, Any], aligned: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what reports/results.json has of the demo, the dials that made it, and how alignment went.

    `aligned`: by label, the metrics of the align stages.
    """
    demo, train = results["demo"], params["finetune"]["train"]
    first = demo["answers"][0]
    return {
        "run": {key: results["run"][key] for key in ("git_sha", "git_dirty", "machine.cpu")},
        "base": Path(params["finetune"]["base"]).name,
        "updated": demo["updated"],
        "steps": train["steps"],
        "tokens": train["steps"] * train["micro_batch_size"] * train["grad_accumulation"] * train["seq_len"],
        "stages_s": {row["stage"]: row["time_s"] for row in results["stages"]},
        "sampling": {key: first[key] for key in ("form", "temperature", "max_tokens", "seed")},
        "bits_per_byte": [
            {key: row[key] for key in ("model", "metric", "value", "stderr", "n", "is_synthetic")}
            for row in demo["figures"]
            if row["metric"] in FIGURES and row["value"] is not None
        ],
        "aligned": {
            label: {key: value for key, value in metrics.items() if key.startswith(("before", "after"))}
            for label, metrics in aligned.items()
        },
        "answers": [
            {
                "prompt": prompt,
                **{a["model"]: _text(a) for a in demo["answers"] if a["prompt"] == prompt},
            }
            for prompt in dict.fromkeys(a["prompt"] for a in demo["answers"])
        ],
    }


def _text(answer: dict[str, Any]) -> str:
    """Return an answer on one line; what the limit cut off ends in an ellipsis."""
    text = " ".join(answer["text"].split())
    return text + " …" if answer["finish_reason"] == "length" else text


def render(result: dict[str, Any]) -> str:
    """Return the chapter's list."""
    updated, sampling = result["updated"], result["sampling"]
    lines = [
        f"{result['base']}; {updated['trainable_parameters']:,} of {updated['parameters']:,} parameters "
        f"updated, {result['steps']} steps, {result['tokens']:,} tokens, one seed. Temperature "
        f"{sampling['temperature']}, at most {sampling['max_tokens']} tokens, seed {sampling['seed']}. "
        f"{result['run']['machine.cpu']}, {result['stages_s']['finetune'] / 60:.0f} minutes of fine-tuning."
    ]
    for answer in result["answers"]:
        lines.append(f"**{answer['prompt']}**")
        lines.append("\n".join(f"- *{model}*: {_plain(answer[model])}" for model in SHOWN))
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    """Return text that Markdown shows as it stands."""
    return "".join("\\" + c if c in "\\`*_[]<>#|" else c for c in text) or "(nothing)"


def main() -> None:
    """Keep the demo of this checkout, or write the chapter's list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--table", action="store_true", help="write the chapter's list and collect nothing")
    args = parser.parse_args()
    if args.table:
        result = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
        put_in_chapter(BEGIN, render(result), END)
        return
    path = Path("reports/results.json")
    if not path.is_file():
        parser.error(f"{path} is not here; type `dvc repro`, then this again")
    results = json.loads(path.read_text(encoding="utf-8"))
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    files = {label: Path("models") / label / "metrics.json" for label in results["demo"]["models"]}
    aligned = {
        label: json.loads(file.read_text(encoding="utf-8"))
        for label, file in files.items()
        if label.startswith("align-")
    }
    write_result(NAME, collect(results, params, aligned))


if __name__ == "__main__":
    main()
