"""GPT-2's own vocabulary: encoder.json and vocab.bpe, which others call vocab.json and merges.txt.

Source: the files that OpenAI published with GPT-2; the data registry has them as gpt2_bpe_encoder and
gpt2_bpe_vocab. They hold no chat tokens: with_chat_tokens gives ours the next ids.
"""

import dataclasses
import json
from pathlib import Path

from gpt.tokenizer.byte_level import foreign_tokenizer, pairs_of
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.special_tokens import END_OF_TEXT, SPECIAL_TOKENS
from gpt.tokenizer.tokenizer import Tokenizer


def find_gpt2_files(extra: Path) -> tuple[Path, Path]:
    """Return encoder.json and vocab.bpe among fetch's extra sets; raises ValueError when one is not there."""
    encoder_json, vocab_bpe = extra / "gpt2_bpe_encoder/encoder.json", extra / "gpt2_bpe_vocab/vocab.bpe"
    for path in (encoder_json, vocab_bpe):
        if not path.is_file():
            raise ValueError(
                f"tokenize.kind: gpt2 needs the set {path.parent.name}; add it to fetch.extras, "
                f"or read in {extra.parent / 'sources.json'} why it was not found"
            )
    return encoder_json, vocab_bpe


def gpt2_tokenizer(encoder_json: Path, vocab_bpe: Path) -> Tokenizer:
    """Read the tokens with their ids, and the merges in order. Raises ValueError with the file's name."""
    try:
        vocabulary = json.loads(encoder_json.read_text(encoding="utf-8"))
        lines = vocab_bpe.read_text(encoding="utf-8").split("\n")
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{encoder_json} or {vocab_bpe.name} is damaged ({error})") from None
    if not isinstance(vocabulary, dict) or not all(type(i) is int for i in vocabulary.values()):
        raise ValueError(f"{encoder_json}: a mapping of tokens to ids is expected")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = {END_OF_TEXT: vocabulary[END_OF_TEXT]} if END_OF_TEXT in vocabulary else {}
    pairs = pairs_of(merges, str(vocab_bpe))
    return foreign_tokenizer(vocabulary, pairs, special, PATTERNS["gpt2"], str(encoder_json))


def with_chat_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Give our special tokens that the tokenizer lacks the ids behind its last."""
    lacking = [name for name in SPECIAL_TOKENS if name not in tokenizer.special_tokens]
    added = {name: tokenizer.n_vocab + i for i, name in enumerate(lacking)}
    return dataclasses.replace(tokenizer, special_tokens=tokenizer.special_tokens | added)
