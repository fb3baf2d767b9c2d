"""A tokenizer, of either kind: text to ids and back. BPE runs in tiktoken's engine."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import tiktoken

from gpt.config import fingerprint
from gpt.tokenizer.count_words import count_words
from gpt.tokenizer.pretokenize import PATTERNS, pieces
from gpt.tokenizer.special_tokens import END_OF_TEXT, SPECIAL_TOKENS
from gpt.tokenizer.train_bpe import train_bpe


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """What vocab_file.py reads and writes."""

    kind: Literal["bpe", "char"]
    pattern: str
    """Split pattern (bpe)."""
    tokens: tuple[bytes, ...]
    """Bytes of the ordinary tokens in id order; of a char tokenizer, the symbols."""
    special_tokens: dict[str, int]
    """Ids by name. Ours stand behind the ordinary tokens; a foreign vocabulary puts them anywhere."""

    def __post_init__(self) -> None:
        ids = set(self.special_tokens.values())
        assert len(ids) == len(self.special_tokens), "a special id twice"
        assert ids <= set(range(self.n_vocab)), "ids leave a gap"

    @property
    def n_vocab(self) -> int:
        """V: ordinary and special tokens."""
        return len(self.tokens) + len(self.special_tokens)

    @property
    def end_of_text(self) -> int:
        """Id of the token between documents."""
        return self.special_tokens[END_OF_TEXT]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits; shards and checkpoints carry them."""
        tokens = [token.hex() for token in self.tokens]
        return fingerprint(self.kind, self.pattern, tokens, self.special_tokens)

    @cached_property
    def ordinary_ids(self) -> tuple[int, ...]:
        """Id of each of `tokens`: the ids that no special token has, in order."""
        special = set(self.special_tokens.values())
        return tuple(i for i in range(self.n_vocab) if i not in special)

    @cached_property
    def _engine(self) -> tiktoken.Encoding:
        ranks = dict(zip(self.tokens, self.ordinary_ids, strict=True))
        return tiktoken.Encoding(
            name="rawgpt", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    @cached_property
    def _char_ids(self) -> dict[str, int]:
        return {token.decode(): i for token, i in zip(self.tokens, self.ordinary_ids, strict=True)}

    @cached_property
    def _ids_of_points(self) -> np.ndarray:
        """Id of each code point, -1 where there is none: int64, one longer than the largest known."""
        table = np.full(max(map(ord, self._char_ids), default=0) + 2, -1, dtype=np.int64)
        table[[ord(char) for char in self._char_ids]] = list(self._char_ids.values())
        return table

    @cached_property
    def _bytes_of(self) -> dict[int, bytes]:
        names = {i: name.encode() for name, i in self.special_tokens.items()}
        return names | dict(zip(self.ordinary_ids, self.tokens, strict=True))

    @cached_property
    def _unknown_bytes(self) -> frozenset[int]:
        """Bytes without a token: a vocabulary trained elsewhere may lack some that are rare."""
        return frozenset(range(256)) - {token[0] for token in self.tokens if len(token) == 1}

    def encode(self, text: str) -> list[int]:
        """Return ids of ordinary text; special tokens in it are read as plain characters.

        Raises ValueError for a character that the tokenizer does not know.
        """
        if self.kind == "bpe":
            if self._unknown_bytes:
                self._refuse_unknown(text)
            ids: list[int] = []
            for piece in pieces(text, self.pattern):
                ids += self._engine.encode_ordinary(piece)
            return ids
        try:
            return [self._char_ids[char] for char in text]
        except KeyError as error:
            raise ValueError(f"the char tokenizer does not know {error.args[0]!r}") from None

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of `encode` as uint32 (n,), without a Python object for each: for whole corpora."""
        if self.kind == "bpe":
            if self._unknown_bytes:
                self._refuse_unknown(text)
            ids = [
                self._engine.encode_to_numpy(piece, disallowed_special=())
                for piece in pieces(text, self.pattern)
            ]
            return ids[0] if len(ids) == 1 else np.concatenate(ids)
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")  # (n,)
        found = self._ids_of_points[np.minimum(points, len(self._ids_of_points) - 1)]
        if (found < 0).any():
            raise ValueError(f"the char tokenizer does not know {text[int(np.argmin(found))]!r}")
        return found.astype(np.uint32)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of ids; a special token gives its name."""
        return b"".join(self._bytes_of[i] for i in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; an incomplete character becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _refuse_unknown(self, text: str) -> None:
        """Raise ValueError when a character needs a byte that has no token; the engine would panic."""
        if self._unknown_bytes.isdisjoint(text.encode()):
            return
        char = next(c for c in text if not self._unknown_bytes.isdisjoint(c.encode()))
        raise ValueError(f"the tokenizer does not know {char!r}: no token for its bytes {char.encode()!r}")


def _with_special(tokens: Sequence[bytes]) -> dict[str, int]:
    return {name: len(tokens) + i for i, name in enumerate(SPECIAL_TOKENS)}


def train_tokenizer(texts: Iterable[str], vocab_size: int, pattern: str) -> Tokenizer:
    """Train byte-level BPE on texts, which are read one at a time; see bpe_tokenizer."""
    return bpe_tokenizer(count_words(texts, PATTERNS[pattern]), vocab_size, pattern)


def bpe_tokenizer(words: Counter[bytes], vocab_size: int, pattern: str) -> Tokenizer:
    """Train byte-level BPE on counted words to `vocab_size` ids, special tokens included.

    Raises ValueError when the words hold fewer pairs than merges are asked for.
    """
    tokens = train_bpe(words, vocab_size - 256 - len(SPECIAL_TOKENS))
    n_vocab = len(tokens) + len(SPECIAL_TOKENS)
    if n_vocab < vocab_size:
        raise ValueError(
            f"vocab_size: the corpus yields only {n_vocab} tokens, {vocab_size} are asked for; "
            "lower tokenize.vocab_size or add text"
        )
    return Tokenizer(
        kind="bpe", pattern=PATTERNS[pattern], tokens=tuple(tokens), special_tokens=_with_special(tokens)
    )


def char_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Make the char tokenizer of the symbols that occur, in code point order."""
    symbols: set[str] = set()
    for text in texts:
        symbols.update(text)
    tokens = tuple(char.encode() for char in sorted(symbols))
    return Tokenizer(kind="char", pattern="", tokens=tokens, special_tokens=_with_special(tokens))
