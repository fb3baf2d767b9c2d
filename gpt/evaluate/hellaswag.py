"""HellaSwag's validation split (Zellers et al. 2019) in two formats whose numbers differ.

`lm_eval`: "activity label: context", cleaned of WikiHow's tags, scored by acc and per character.
`nanogpt` (build-nanogpt): the raw context without the label, scored by acc and per token.
Reads the original records (ctx_a, ctx_b) and the cleaned ones (query). In the cleaned ones ctx_b is not
capitalised, so lm_eval's figure can differ a little there from the one on the original file.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

from gpt.evaluate.json_lines import numbered_lines
from gpt.evaluate.multiple_choice import Item
from gpt.evaluate.score import evenly

Format = Literal["lm_eval", "nanogpt"]
FOLDER = Path("extra") / "hellaswag_val"
REPORTED: dict[Format, tuple[str, str]] = {
    "lm_eval": ("acc", "acc_norm_char"),
    "nanogpt": ("acc", "acc_norm_token"),
}
"""The rules of multiple_choice that each format's authors report."""


def find_hellaswag(files: Path) -> Path | None:
    """Return the set's file in fetch's folder, or None when it was not fetched.

    Raises ValueError when there are several.
    """
    folder = files / FOLDER
    found = sorted(p for p in folder.glob("*.jsonl*") if p.suffix in (".jsonl", ".bz2"))
    if len(found) > 1:
        raise ValueError(f"{folder}: {len(found)} files, one is expected; remove the surplus")
    return found[0] if found else None


def read_hellaswag(path: Path, limit: int) -> list[dict[str, Any]]:
    """Read `limit` records (0: all), evenly spread over the file; raises ValueError naming the line."""
    try:
        lines = list(numbered_lines(path))
    except (EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); run `dvc repro -f fetch`") from None
    records = []
    for number, line in evenly(lines, limit):
        try:
            record = json.loads(line)
            assert len(record["endings"]) == 4
            assert int(record["label"]) in range(4)
            assert "query" in record or "ctx_a" in record
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise ValueError(f"{path}:{number}: not a HellaSwag record ({error!r})") from None
        records.append(record)
    return records


def hellaswag_item(record: dict[str, Any], style: Format) -> Item:
    """Return a record as an item of one format."""
    endings, label = record["endings"], int(record["label"])
    if style == "nanogpt":
        return Item(context=record["ctx"], endings=tuple(endings), label=label)
    if "ctx_a" in record:
        context = f"{record['ctx_a']} {record['ctx_b'].capitalize()}"
        query = clean(f"{record['activity_label']}: {context}")
    else:
        query = clean(record["query"])
    return Item(context=query, endings=tuple(clean(ending) for ending in endings), label=label)


def clean(text: str) -> str:
    """Drop WikiHow's tags as lm-eval does: " [title]" ends a sentence, other tags vanish.

    >>> clean("How to bow [title] Stand [step] straight.")
    'How to bow. Stand straight.'
    """
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
