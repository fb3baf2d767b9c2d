"""Text to token ids and back, as tiktoken does it, without `regex`: two splits are scanned by hand, GPT-2's
and SmolLM's, which is the same with every digit a word by itself.

Letters and numbers are those of Python's unicodedata: a character younger than its Unicode version splits as
a symbol. Text never becomes a special token.
"""

import base64
import heapq
import json
import unicodedata
from pathlib import Path
from typing import Any

FORMAT = "rawgpt-tokenizer-1"
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SMOLLM_PATTERN = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
CONTRACTIONS = ("'s", "'d", "'m", "'t", "'ll", "'ve", "'re")
# Unicode's White_Space, which is what \s means in the pattern; str.isspace() also takes U+001C to U+001F.
SPACES = frozenset(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])) | set(
    "\u2028\u2029\u202f\u205f\u3000"
)


def kind_of(char: str) -> str:
    """Return `L` letter, `N` number, `S` white space or `O` anything else."""
    if char in SPACES:
        return "S"
    major = unicodedata.category(char)[0]
    return major if major in "LN" else "O"


def split_words(text: str, *, digits_alone: bool = False) -> list[str]:
    """Split text as GPT-2's pattern does, or SmolLM's, where digits stand alone.

    >>> split_words("it's  12 am\\n")
    ['it', "'s", ' ', ' 12', ' am', '\\n']
    >>> split_words("it's  12 am\\n", digits_alone=True)
    ['it', "'s", '  ', '1', '2', ' am', '\\n']
    """
    alone = "SN" if digits_alone else "S"  # kinds that a space in front does not join

    words, at, n = [], 0, len(text)
    while at < n:
        contraction = next((c for c in CONTRACTIONS if text.startswith(c, at)), None)
        if contraction is not None:
            end = at + len(contraction)
        else:
            first = at + 1 if text[at] == " " and at + 1 < n and kind_of(text[at + 1]) not in alone else at
            kind, end = kind_of(text[first]), first + 1
            while end < n and kind_of(text[end]) == kind and not (kind == "N" and digits_alone):
                end += 1
            # Two or more white spaces leave the last one to the word behind them, if it takes one.
            if kind == "S" and end < n and end - at > 1 and kind_of(text[end]) not in alone:
                end -= 1
        words.append(text[at:end])
        at = end
    return words


def merge(word: bytes, ranks: dict[bytes, int]) -> list[int]:
    """Merge a word's bytes, lowest rank first and leftmost among equals; O(n log n)."""
    if word in ranks:
        return [ranks[word]]
    ends = list(range(1, len(word) + 1))  # piece i is word[i:ends[i]]; 0 marks a piece that is gone
    before = list(range(-1, len(word) - 1))
    heap: list[tuple[int, int, int]] = []

    def offer(i: int) -> None:
        if i >= 0 and ends[i] < len(word):
            end = ends[ends[i]]
            rank = ranks.get(word[i:end])
            if rank is not None:
                heapq.heappush(heap, (rank, i, end))

    for i in range(len(word)):
        offer(i)
    while heap:
        _, i, end = heapq.heappop(heap)
        middle = ends[i]
        if middle == 0 or middle >= len(word) or ends[middle] != end:
            continue  # one of the two pieces has changed since
        ends[i], ends[middle] = end, 0
        if end < len(word):
            before[end] = i
        offer(i)
        offer(before[i])
    pieces, i = [], 0
    while i < len(word):
        pieces.append(ranks[word[i : ends[i]]])
        i = ends[i]
    return pieces


class Tokenizer:
    """Byte-level BPE or characters, from tokenizer.json."""

    def __init__(self, content: dict[str, Any]) -> None:
        if content.get("format") != FORMAT or content.get("kind") not in ("bpe", "char"):
            raise ValueError(f"tokenizer.json: {content.get('format')!r} {content.get('kind')!r} is not read")
        self.is_bpe = content["kind"] == "bpe"
        if self.is_bpe:
            if content["pattern"] not in (GPT2_PATTERN, SMOLLM_PATTERN):
                raise ValueError(
                    f"tokenizer.json: pattern {content['pattern']!r}; the guest splits as GPT-2 or SmolLM: "
                    "set tokenize.pattern: gpt2"
                )
            self.digits_alone = content["pattern"] == SMOLLM_PATTERN
            tokens = [base64.b64decode(token) for token in content["ranks"]]
        else:
            tokens = [symbol.encode() for symbol in content["symbols"]]
        self.special_tokens: dict[str, int] = content["special_tokens"]
        self.n_vocab: int = content["n_vocab"]
        special = {i: name.encode() for name, i in self.special_tokens.items()}
        ordinary = (i for i in range(len(tokens) + len(special)) if i not in special)
        self.ranks = dict(zip(tokens, ordinary, strict=False))  # special tokens may stand in front or behind
        self.tokens = {i: token for token, i in self.ranks.items()} | special

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; raises ValueError for a symbol that a char tokenizer lacks."""
        if self.is_bpe:
            words = split_words(text, digits_alone=self.digits_alone)
            try:
                return [i for word in words for i in merge(word.encode(), self.ranks)]
            except KeyError as error:
                raise ValueError(f"prompt: the tokenizer has no token for {error.args[0]!r}") from None
        try:
            return [self.ranks[char.encode()] for char in text]
        except KeyError as error:
            raise ValueError(f"prompt: the tokenizer does not know {error.args[0].decode()!r}") from None

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids; an incomplete character becomes U+FFFD."""
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", errors="replace")


def open_tokenizer(folder: Path) -> Tokenizer:
    """Read a folder's tokenizer.json."""
    return Tokenizer(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
