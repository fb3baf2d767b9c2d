"""gpt/tokenizer/hugging_face.py: tokenizer.json, and what of it we do not hold."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from gpt.tokenizer.byte_level import byte_symbols
from gpt.tokenizer.hugging_face import load_hugging_face_tokenizer
from gpt.tokenizer.pretokenize import PATTERNS

BYTES = {symbol: i for i, symbol in enumerate(byte_symbols(), start=1)}
SPLIT = r"\p{L}+|\P{L}+"
CONTENT: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": True}],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "post_processor": {"type": "ByteLevel", "trim_offsets": True},
    "model": {
        "type": "BPE",
        "vocab": {"<|endoftext|>": 0} | BYTES | {"th": 257, "the": 258},
        "merges": [["t", "h"], ["th", "e"]],
    },
}
BEGINNING = {"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [1]}}}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def load(folder: Path, content: Any, model_type: str = "llama"):  # type: ignore[no-untyped-def]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return load_hugging_face_tokenizer(folder, model_type)


@pytest.mark.parametrize(
    ("node", "pattern"),
    [
        (BYTE_LEVEL, PATTERNS["gpt2"]),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
            },
            PATTERNS["smollm"],
        ),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                    BYTE_LEVEL | {"use_regex": False},
                ],
            },
            SPLIT,
        ),
    ],
    ids=["gpt2", "smollm", "own regex"],
)
def test_split_patterns(tmp_path: Path, node: dict[str, Any], pattern: str) -> None:
    """Guards: one maker's words cut by another's pattern."""
    tokenizer = load(tmp_path, CONTENT | {"pre_tokenizer": node})
    assert tokenizer.pattern == pattern
    assert tokenizer.encode("the") == [258]
    assert tokenizer.special_tokens == {"<|endoftext|>": 0}


def test_merges_as_strings_are_the_same(tmp_path: Path) -> None:
    """Guards: older files, which write a merge as one string."""
    old = copy.deepcopy(CONTENT)
    old["model"]["merges"] = ["t h", "th e"]
    old["post_processor"] = {"type": "TemplateProcessing", "special_tokens": {}}  # adds nothing
    assert load(tmp_path, old) == load(tmp_path, CONTENT)


def at(path: str, value: Any) -> dict[str, Any]:
    """CONTENT with one key set."""
    content = copy.deepcopy(CONTENT)
    node = content
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    node[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (at("model.type", "Unigram"), "model.type 'Unigram'; byte-level BPE is read"),
        (at("model.byte_fallback", True), "model.byte_fallback True is not held"),
        (at("model.end_of_word_suffix", "</w>"), "model.end_of_word_suffix '</w>'"),
        (at("normalizer", {"type": "NFC"}), "normalizer 'NFC' is not held"),
        (at("post_processor", BEGINNING), "'TemplateProcessing' adds tokens"),
        (at("post_processor", {"type": "Sequence", "processors": [BEGINNING]}), "adds tokens"),
        (at("pre_tokenizer.add_prefix_space", True), "pre_tokenizer .* is not held"),
        (at("pre_tokenizer", {"type": "Metaspace"}), "pre_tokenizer .'Metaspace'. is not held"),
        (at("added_tokens", [{"id": 0, "content": "<b>", "special": False}]), "'<b>' is ordinary text"),
        (at("added_tokens", []), "no special token"),
        (at("model.merges", [["t", "h", "e"]]), "is no pair"),
        (at("model", {"type": "BPE"}), "damaged"),
        ([1], "damaged"),
    ],
)
def test_what_is_not_held_is_named(tmp_path: Path, content: Any, message: str) -> None:
    """Guards: ids that differ from the model's own in silence."""
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, content)
    assert "tokenizer.json" in str(error.value)


def test_a_llama_without_tokenizer_json(tmp_path: Path) -> None:
    """Guards: GPT-2's split guessed for a folder that does not say how it splits."""
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match=r"no tokenizer\.json; copy the model's own"):
        load_hugging_face_tokenizer(tmp_path, "llama")
    with pytest.raises(ValueError, match=r"vocab\.json: no special token"):
        load_hugging_face_tokenizer(tmp_path, "gpt2")
    (tmp_path / "vocab.json").write_text("[")
    with pytest.raises(ValueError, match=r"vocab\.json or merges\.txt is damaged"):
        load_hugging_face_tokenizer(tmp_path, "gpt2")
