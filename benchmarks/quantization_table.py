"""The comparison of methods as markdown: the tables of docs/chapters/quantization.md, as a test knows."""

from typing import Any

MIB = 2**20


def render(result: dict[str, Any]) -> str:
    """Return a heading and a table for each model of a result of benchmarks/quantization.py."""
    return "\n\n".join(f"{_heading(model)}\n\n{_table(model)}" for model in result["models"])


def _heading(model: dict[str, Any]) -> str:
    first = model["rows"][0]
    return (
        f"**{model['model']}**, groups of {model['group_size']}; {first['tokens']:,} predicted tokens in "
        f"{first['windows']} windows ({model['text']}, {model['calibration_tokens']:,} tokens); "
        f"{first['items']} HellaSwag items. GPTQ's rise over rounding's: {model['gptq_over_nearest']:.2f}."
    )


def _table(model: dict[str, Any]) -> str:
    lines = [
        "| method | bits | perplexity | rise, % | file, MiB | storages, MiB | process, MiB | ms/token | "
        "HellaSwag |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in model["rows"]:
        if "absent" in row:
            lines.append(f"| {row['method']} | absent: {row['absent']} | | | | | | | |")
            continue
        sizes = [f"{row[key] / MIB:.1f}" if key in row else "" for key in SIZES]
        time = f"{row['ms_per_token']:.2f}" if "ms_per_token" in row else ""
        lines.append(
            f"| {row['method']} | {row['bits']} | {row['perplexity']:.3f} | {_rise(row)} | "
            f"{' | '.join(sizes)} | {time} | {_choice(row)} |"
        )
    return "\n".join(lines)


SIZES = ("file_bytes", "memory_bytes", "resident_bytes")


def _rise(row: dict[str, Any]) -> str:
    return "" if row["method"] == "float" else f"{100 * row['rise']:+.2f} ± {100 * row['rise_stderr']:.2f}"


def _choice(row: dict[str, Any]) -> str:
    return f"{row['hellaswag']:.3f} ± {row['hellaswag_stderr']:.3f}" if "hellaswag" in row else ""
