"""A tokenizer and its chat form as Hugging Face's fast tokenizers read them.

Our engine joins by id; the format lists merges. A token's merge is the pair into which it falls below its
own id, which gives the same ids (gpt/tokenizer/byte_level.py). Two things the format does differently: it
reads a special token's name inside a text as that token, where ours reads characters, and it puts no token
in front of a text, as ours.
"""

import json
from pathlib import Path
from typing import Any

from gpt.tokenizer.byte_level import merges_of, to_symbols
from gpt.tokenizer.special_tokens import ASSISTANT, END, END_OF_TEXT, IM_END, IM_START
from gpt.tokenizer.tokenizer import Tokenizer

OURS = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_template(tokenizer: Tokenizer) -> str | None:
    """Return the Jinja template of gpt/tokenizer/chat_template.py's form, None without chat tokens."""
    special = tokenizer.special_tokens
    if IM_START in special and IM_END in special:
        return CHATML
    return OURS if ASSISTANT in special and END in special else None


def end_of_turn(tokenizer: Tokenizer) -> str | None:
    """Return the name of the token that ends an answer, None without chat tokens."""
    return next((name for name in (IM_END, END) if name in tokenizer.special_tokens), None)


def ending_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids at which a server stops: end-of-text, and the end of a turn."""
    ending = [END_OF_TEXT, end_of_turn(tokenizer)]
    return [tokenizer.special_tokens[name] for name in ending if name is not None]


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return tokenizer.json; raises ValueError for a tokenizer that is no byte-level BPE."""
    if tokenizer.kind != "bpe":
        raise ValueError(
            f"tokenize.kind: {tokenizer.kind!r} cannot be held by other formats; "
            "train with tokenize.kind: trained to export"
        )
    vocabulary = {to_symbols(t): i for i, t in zip(tokenizer.ordinary_ids, tokenizer.tokens, strict=True)}
    special = sorted(tokenizer.special_tokens.items(), key=lambda entry: entry[1])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    pattern = {"Regex": tokenizer.pattern}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for name, i in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted((vocabulary | dict(special)).items(), key=lambda entry: entry[1])),
            "merges": [[to_symbols(part) for part in pair] for pair in merges_of(tokenizer)],
        },
    }


def write_tokenizer(folder: Path, tokenizer: Tokenizer, max_seq_len: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json."""
    template = chat_template(tokenizer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": max_seq_len,
        "clean_up_tokenization_spaces": False,
        **({} if template is None else {"chat_template": template}),
    }
    generation = {"eos_token_id": ending_ids(tokenizer), "pad_token_id": tokenizer.end_of_text}
    for name, content in (
        ("tokenizer.json", tokenizer_json(tokenizer)),
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")
