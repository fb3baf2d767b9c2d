"""HellaSwag's two formats."""

import bz2
import json
import os
from pathlib import Path

import pytest

from gpt.evaluate.hellaswag import find_hellaswag, hellaswag_item, read_hellaswag

ENDINGS = ["is [step] up.", "sits.", "runs.", "eats."]
ORIGINAL = {
    "activity_label": "Roof shingle removal",
    "ctx_a": "A man is on a roof.",
    "ctx_b": "he",
    "ctx": "A man is on a roof. he",
    "endings": ENDINGS,
    "label": "3",
}
WIKIHOW = {
    **ORIGINAL,
    "activity_label": "Health",
    "ctx_a": "How to rest [title] Lie down [step] flat.",
    "ctx_b": "",
}
CLEANED = {"query": "Roof: A man. he", "ctx": "A man. he", "endings": ENDINGS, "label": 1}


def test_formats_by_hand() -> None:
    """As lm-eval 0.4 prints the first; guards a missing label, capital or clean-up."""
    item = hellaswag_item(ORIGINAL, "lm_eval")
    assert item.context == "Roof shingle removal: A man is on a roof. He"
    assert item.endings == ("is up.", "sits.", "runs.", "eats.")
    assert item.label == 3
    assert hellaswag_item(WIKIHOW, "lm_eval").context == "Health: How to rest. Lie down flat."
    raw = hellaswag_item(ORIGINAL, "nanogpt")
    assert raw.context == "A man is on a roof. he"
    assert raw.endings == tuple(ENDINGS)
    assert hellaswag_item(CLEANED, "lm_eval").context == "Roof: A man. he"


@pytest.mark.parametrize("name", ["hellaswag_val.jsonl", "hellaswag_val.jsonl.bz2"])
def test_reads_what_fetch_left(tmp_path: Path, name: str) -> None:
    """Plain and packed; nothing fetched is None, not an error; two of three are spread."""
    assert find_hellaswag(tmp_path) is None
    folder = tmp_path / "extra" / "hellaswag_val"
    folder.mkdir(parents=True)
    text = "".join(json.dumps({**CLEANED, "ind": i}) + "\n" for i in range(4))
    data = text.encode()
    (folder / name).write_bytes(bz2.compress(data) if name.endswith("bz2") else data)
    path = find_hellaswag(tmp_path)
    assert path is not None
    assert [record["ind"] for record in read_hellaswag(path, 2)] == [1, 3]
    assert len(read_hellaswag(path, 0)) == 4


def test_damage_is_named(tmp_path: Path) -> None:
    """A record with three endings, and a cut archive. Guards a silent smaller n."""
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps({**CLEANED, "endings": ENDINGS[:3]}) + "\n")
    with pytest.raises(ValueError, match=r"h.jsonl:1: not a HellaSwag record"):
        read_hellaswag(path, 0)
    packed = tmp_path / "h.jsonl.bz2"
    packed.write_bytes(bz2.compress(json.dumps(CLEANED).encode())[:-9])
    with pytest.raises(ValueError, match=r"h.jsonl.bz2: damaged"):
        read_hellaswag(packed, 0)


def test_the_real_file() -> None:
    """10,042 records, all readable, first query as lm-eval's but for ctx_b's capital (the set's own note)."""
    mirror = os.environ.get("RAWGPT_DATA_MIRROR")
    if not mirror:
        pytest.skip("RAWGPT_DATA_MIRROR is not set: the real HellaSwag file is not here")
    records = read_hellaswag(Path(mirror) / "eval" / "hellaswag_val.jsonl.bz2", 0)
    assert len(records) == 10042
    first = hellaswag_item(records[0], "lm_eval")
    assert first.context == "Roof shingle removal: A man is sitting on a roof. he"
    assert first.label == 3
