"""The tables and figures of docs/chapters/tokenizer_comparison.md, out of the two results. Not a benchmark.

`python -m benchmarks.tokenizer_chapter`: each table stands behind its `<!-- name -->` and is replaced there;
the two figures are files beside the chapter. The prose is written by hand, and a test checks its claims.
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.category_chart import CategorySeries, category_chart
from benchmarks.result_file import RESULTS
from benchmarks.tokenizer_bits_per_byte import SEQ_LEN, body
from gpt.model.config import ModelConfig
from gpt.model.flops import count_parameters, training_flops_per_token
from gpt.model.presets import preset

CHAPTER = Path(__file__).parents[1] / "docs/chapters/tokenizer_comparison.md"
SIZES = ("4K", "8K", "16K", "32K")
BODIES: dict[str, ModelConfig] = {
    "this chapter's": body(1),
    **{name: preset(name) for name in ("s4-small", "gpt2-124m", "gpt2-350m")},
}
"""Whose cost a byte is computed; the vocabulary is put in."""
MOST_PIECES = 7
"""A word of more tokens is shown by their number alone."""


def tables(tokens: dict[str, Any], quality: dict[str, Any]) -> dict[str, str]:
    """Return the chapter's tables by name, as Markdown."""
    sets = [held["set"] for held in tokens["held_out"]]
    return {
        "sets": _sets(tokens),
        "bytes per token": _per_set(tokens, "bytes_per_token", sets),
        "tokens per word": _per_set(tokens, "tokens_per_word", [s for s in sets if s != "payment logs"]),
        "words": _words(tokens),
        "cost": _cost(tokens),
        "quality": _quality(quality),
    }


def figures(tokens: dict[str, Any], quality: dict[str, Any]) -> dict[str, str]:
    """Return the chapter's figures by file name, as SVG."""
    cells = _cells(tokens)
    lines = []
    for color, set_name in enumerate(("novels", "Hinglish commands", "payment logs")):
        for family in ("English", "mixed"):
            names = {size: f"{family} {size}" for size in SIZES}
            if family == "mixed":
                names["GPT-2"] = "GPT-2"
            rows = {at: cells[name, set_name] for at, name in names.items()}
            lines.append(
                CategorySeries(
                    name=f"{set_name}: trained on {family} text",
                    points={
                        at: (row["bytes_per_token"], row["bytes_per_token_se"]) for at, row in rows.items()
                    },
                    color=color,
                    is_dashed=family == "English",
                )
            )
    budgets = sorted({row["budget_tflop"] for row in quality["rows"]}, reverse=True)
    curves = [
        CategorySeries(
            name=f"{budget:g} TFLOP a run",
            points={
                row["tokenizer"]: (row["bits_per_byte"], row["standard_error"] or 0.0)
                for row in quality["rows"]
                if row["budget_tflop"] == budget
            },
            color=color,
        )
        for color, budget in enumerate(budgets)
    ]
    return {
        "tokenizer_bytes_per_token.svg": category_chart((*SIZES, "", "GPT-2"), lines, "bytes per token"),
        "tokenizer_bits_per_byte.svg": category_chart(
            ("char", *SIZES, "GPT-2"), curves, "bits per byte of held-out novels"
        ),
    }


def rewrite(chapter: str, found: dict[str, str]) -> str:
    """Return the chapter with its tables replaced. Raises ValueError for a table without a place."""
    for name, table in found.items():
        places = [*re.finditer(rf"<!-- {re.escape(name)} -->\n\n(?P<table>(?:\|.*\n)*)", chapter)]
        if len(places) != 1:
            raise ValueError(f"{CHAPTER.name}: one line '<!-- {name} -->' and an empty one are needed")
        start, end = places[0].span("table")
        chapter = f"{chapter[:start]}{table}\n{chapter[end:]}"
    return chapter


def _cells(tokens: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["tokenizer"], row["set"]): row for row in tokens["rows"]}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, *rows]
    marked = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([marked[0], "|" + "---|" * len(header), *marked[1:]])


def _sets(tokens: dict[str, Any]) -> str:
    what = {
        "English": ("{} books, no Shakespeare", "real"),
        "Hinglish": ("{} lines of codemixed_dstc2_hi_trn and hinglish_top_train", "real"),
        "generated": ("{} messages of support chats and payment logs", "synthetic"),
    }
    rows = []
    for name, (description, origin) in what.items():
        part = tokens["training"][name]
        told = description.format(f"{part['texts']:,}")
        rows.append([f"training: {name}", told, origin, f"{part['bytes']:,}", ""])
    for held in tokens["held_out"]:
        origin = "synthetic" if held["is_synthetic"] else "real"
        rows.append([held["set"], held["description"], origin, f"{held['bytes']:,}", f"{held['words']:,}"])
    return _table(["text", "what", "origin", "bytes", "words"], rows)


def _per_set(tokens: dict[str, Any], metric: str, sets: list[str]) -> str:
    cells = _cells(tokens)
    rows = []
    for name in dict.fromkeys(row["tokenizer"] for row in tokens["rows"]):
        line = [name, f"{tokens['n_vocab'][name]:,}" if name in tokens["n_vocab"] else ""]
        for set_name in sets:
            row = cells[name, set_name]
            unknown = row["unknown_characters"]
            line.append(f"{unknown:,} unknown" if unknown else f"{row[metric]:.2f}")
        rows.append(line)
    worst = [max(row.get(f"{metric}_se", 0.0) for row in tokens["rows"] if row["set"] == s) for s in sets]
    rows.append(["largest standard error", "", *(f"{error:.2f}" for error in worst)])
    return _table(["tokenizer", "V", *sets], rows)


def _words(tokens: dict[str, Any]) -> str:
    shown = {(row["tokenizer"], row["word"]): row for row in tokens["segments"]}
    names = list(dict.fromkeys(row["tokenizer"] for row in tokens["segments"]))
    rows = []
    for word in dict.fromkeys(row["word"] for row in tokens["segments"]):
        line = [word]
        for name in names:
            row = shown[name, word]
            line.append(str(row["tokens"]) + (f": {row['pieces']}" if row["tokens"] <= MOST_PIECES else ""))
        rows.append(line)
    return _table(["text", *names], rows)


def _cost(tokens: dict[str, Any]) -> str:
    """Training MFLOP per byte of novels and the output projection's share; the cheapest is bold."""
    cells = _cells(tokens)
    names = [*(f"English {size}" for size in SIZES), "GPT-2"]
    rows = []
    for body_name, config in BODIES.items():
        seq_len = SEQ_LEN if body_name == "this chapter's" else config.max_seq_len
        costs, shares = [], []
        for name in names:
            full = dataclasses.replace(config, vocab_size=tokens["n_vocab"][name])
            flops = training_flops_per_token(full, seq_len)
            costs.append(flops / 1e6 / cells[name, "novels"]["bytes_per_token"])
            shares.append(6 * full.vocab_size * full.dim / flops)
        count = count_parameters(config)
        line = [body_name, f"{(count.total - count.embedding) / 1e6:.1f}M"]
        for cost, share in zip(costs, shares, strict=True):
            text = f"{cost:.3g} ({share:.0%})"
            line.append(f"**{text}**" if cost == min(costs) else text)
        rows.append(line)
    return _table(["body", "its parameters", *names], rows)


def _quality(quality: dict[str, Any]) -> str:
    header = [
        "budget",
        "tokenizer",
        "V",
        "table",
        "projection's FLOPs",
        "steps",
        "text read",
        "bits per byte",
    ]
    rows = []
    for row in quality["rows"]:
        error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.3f}"
        seeds = "1 seed" if row["n"] == 1 else f"{row['n']} seeds"
        rows.append(
            [
                f"{row['budget_tflop']:g} TFLOP",
                row["tokenizer"],
                f"{row['n_vocab']:,}",
                f"{row['embedding_parameters'] / 1e6:.2f}M",
                f"{row['head_share']:.0%}",
                f"{row['steps']:,}",
                f"{row['bytes'] / 1e6:.2f} MB",
                f"{row['bits_per_byte']:.3f}{error} ({seeds})",
                f"{row['cpu_s']:.0f}",
            ]
        )
    return _table([*header, "CPU s"], rows)


def read_results() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both benchmarks' results."""
    tokens, quality = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("token_counts", "tokenizer_bits_per_byte")
    )
    return tokens, quality


def main() -> None:
    """Rewrite the chapter's tables and its figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    tokens, quality = read_results()
    chapter = rewrite(CHAPTER.read_text(encoding="utf-8"), tables(tokens, quality))
    CHAPTER.write_text(chapter, encoding="utf-8")
    for name, content in figures(tokens, quality).items():
        (CHAPTER.parent / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
