"""The tokenizers that are compared, trained or read in one place. Not a benchmark.

BPE is greedy: the merges of a small vocabulary are the first merges of a larger one over the same text, so
that one training gives every size.
"""

from collections.abc import Sequence

from gpt.corpus.registry import fetch
from gpt.tokenizer import gpt2_files
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.special_tokens import SPECIAL_TOKENS
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer

SIZES = {"4K": 4096, "8K": 8192, "16K": 16384, "32K": 32768}
N_BYTES = 256


def trained(texts: Sequence[str], pattern: str) -> dict[str, Tokenizer]:
    """Return the BPE tokenizers of `texts` by their size's name."""
    largest = train_tokenizer(texts, max(SIZES.values()), pattern)
    return {name: cut_vocabulary(largest, size) for name, size in SIZES.items()}


def byte_tokenizer(pattern: str) -> Tokenizer:
    """Return the tokenizer without a merge: a token a byte."""
    return _ours(tuple(bytes([b]) for b in range(N_BYTES)), PATTERNS[pattern])


def cut_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """Return what the same training gives when it stops at `vocab_size` ids, special tokens included."""
    n = vocab_size - len(SPECIAL_TOKENS)
    assert N_BYTES <= n <= len(tokenizer.tokens), f"{vocab_size} of {tokenizer.n_vocab}"
    return _ours(tokenizer.tokens[:n], tokenizer.pattern)


def gpt2_tokenizer() -> Tokenizer:
    """Return GPT-2's own, of 50,257 ids."""
    return gpt2_files.gpt2_tokenizer(fetch("gpt2_bpe_encoder"), fetch("gpt2_bpe_vocab"))


def _ours(tokens: tuple[bytes, ...], pattern: str) -> Tokenizer:
    special = {name: len(tokens) + i for i, name in enumerate(SPECIAL_TOKENS)}
    return Tokenizer(kind="bpe", pattern=pattern, tokens=tokens, special_tokens=special)
