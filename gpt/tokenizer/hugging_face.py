"""The tokenizer of a Hugging Face folder: tokenizer.json, or GPT-2's vocab.json and merges.txt.

Byte-level BPE only. Everything in tokenizer.json that changes ids and that our tokenizer lacks is refused
by its key: normalizers, a token put in front of every text, added tokens that are ordinary text.
"""

import json
from pathlib import Path
from typing import Any

from gpt.tokenizer.byte_level import foreign_tokenizer, pairs_of
from gpt.tokenizer.gpt2_files import gpt2_tokenizer
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.tokenizer import Tokenizer


def load_hugging_face_tokenizer(folder: Path, model_type: str) -> Tokenizer:
    """Read a folder's tokenizer; raises ValueError that says what is missing or not held here."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return _load_gpt2_files(folder, model_type)
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged, or no Hugging Face tokenizer ({error!r})") from None


def _load_gpt2_files(folder: Path, model_type: str) -> Tokenizer:
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if model_type != "gpt2" or not (vocab.is_file() and merges.is_file()):
        also = " (or vocab.json and merges.txt)" if model_type == "gpt2" else ""
        raise ValueError(f"{folder}: no tokenizer.json{also}; copy the model's own tokenizer there")
    return gpt2_tokenizer(vocab, merges)


def _parse(content: dict[str, Any], where: str) -> Tokenizer:
    model = content["model"]
    if model["type"] != "BPE":
        raise ValueError(f"{where}: model.type {model['type']!r}; byte-level BPE is read")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout"):
        if model.get(key):
            raise ValueError(f"{where}: model.{key} {model[key]!r} is not held; byte-level BPE is read")
    if content.get("normalizer"):
        raise ValueError(
            f"{where}: normalizer {content['normalizer']['type']!r} is not held; text stays as it is"
        )
    for step in _steps(content.get("post_processor"), "processors"):
        if step["type"] != "ByteLevel" and (step["type"] != "TemplateProcessing" or step["special_tokens"]):
            raise ValueError(f"{where}: post_processor {step['type']!r} adds tokens to every text; not held")
    added = content.get("added_tokens", [])
    if ordinary := next((token["content"] for token in added if not token["special"]), None):
        raise ValueError(f"{where}: added_tokens: {ordinary!r} is ordinary text; special tokens are read")
    special = {token["content"]: token["id"] for token in added}
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    pattern = _pattern(content["pre_tokenizer"], where)
    return foreign_tokenizer(model["vocab"], pairs_of(merges, where), special, pattern, where)


def _pattern(node: dict[str, Any], where: str) -> str:
    """Return the split pattern that a pre_tokenizer means."""
    steps = _steps(node, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds[-1] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        raise ValueError(f"{where}: pre_tokenizer {kinds} is not held; plain byte-level BPE is read")
    splits_as_gpt2 = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and splits_as_gpt2:
        return PATTERNS["gpt2"]
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and splits_as_gpt2:
        return PATTERNS["smollm"]
    if kinds == ["Split", "ByteLevel"] and not splits_as_gpt2:
        split = steps[0]
        if split["behavior"] == "Isolated" and not split["invert"]:
            return str(split["pattern"]["Regex"])
    raise ValueError(f"{where}: pre_tokenizer {kinds} with these dials is not held")


def _steps(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the parts of a sequence, the one part that stands alone, or none."""
    if not node:
        return []
    parts: list[dict[str, Any]] = node[key] if node["type"] == "Sequence" else [node]
    return parts
