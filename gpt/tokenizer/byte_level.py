"""A byte-level BPE that others trained: vocabulary and merges -> our Tokenizer.

GPT-2's files write each byte as a printable character. Our engine knows ranks only: it joins the pair whose
result has the lowest id, not the pair that stands first in a list of merges. Both are the same tokenizer
when merges and ids have one order and every token falls apart, below its own rank, into the pair that makes
it. That is checked for every token here; a vocabulary that fails it is refused.
Not read: SentencePiece and unigram vocabularies, and merges over characters instead of bytes.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from gpt.tokenizer.special_tokens import END_OF_TEXT
from gpt.tokenizer.tokenizer import Tokenizer


@cache
def byte_symbols() -> dict[str, int]:
    """Return GPT-2's character of each byte: itself where it prints, else the next from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


def foreign_tokenizer(
    vocabulary: Mapping[str, int],
    merges: Iterable[tuple[str, str]],
    special_tokens: Mapping[str, int],
    pattern: str,
    where: str,
) -> Tokenizer:
    """Return the tokenizer of a byte-level vocabulary {symbols: id}; `where` names it in messages.

    Raises ValueError for what our engine would split differently, and without an end-of-text token.
    """
    if END_OF_TEXT not in special_tokens:
        raise ValueError(f"{where}: no special token {END_OF_TEXT}, which stands between documents here")
    ordinary = {symbols: i for symbols, i in vocabulary.items() if symbols not in special_tokens}
    ids = sorted([*ordinary.values(), *special_tokens.values()])
    if ids != list(range(len(ids))):
        gap = next(min(n, i) for n, i in enumerate(ids) if n != i)
        raise ValueError(f"{where}: token id {gap} is missing or given twice")
    ranks = {_to_bytes(symbols, where): i for symbols, i in ordinary.items()}
    _check_merges(ranks, [(_to_bytes(a, where), _to_bytes(b, where)) for a, b in merges], where)
    return Tokenizer(
        kind="bpe",
        pattern=pattern,
        tokens=tuple(sorted(ranks, key=ranks.__getitem__)),
        special_tokens=dict(special_tokens),
    )


def pairs_of(merges: Iterable[Sequence[str]], where: str) -> list[tuple[str, str]]:
    """Check that each merge names two tokens; raises ValueError for the first that does not."""
    pairs = []
    for merge in merges:
        if len(merge) != 2 or not all(isinstance(part, str) for part in merge):
            raise ValueError(f"{where}: the merge {merge!r} is no pair")
        pairs.append((merge[0], merge[1]))
    return pairs


def pad_vocabulary(tokenizer: Tokenizer, n_rows: int, where: str) -> Tokenizer:
    """Name the ids behind the vocabulary up to `n_rows` embeddings, so that every id has a text.

    Makers round the number of embeddings up; those rows were never trained. They become special tokens:
    text cannot produce them, and one that is drawn ends the text. Raises ValueError for too few rows.
    """
    n_vocab = tokenizer.n_vocab
    if n_rows < n_vocab:
        raise ValueError(
            f"{where}: {n_rows} embeddings for {n_vocab} tokens; at least {n_vocab} are needed "
            "(is the tokenizer another model's?)"
        )
    unused = {f"<|unused_{i}|>": i for i in range(n_vocab, n_rows)}
    return dataclasses.replace(tokenizer, special_tokens=tokenizer.special_tokens | unused)


def _to_bytes(symbols: str, where: str) -> bytes:
    table = byte_symbols()
    if not symbols or not table.keys() >= set(symbols):
        raise ValueError(f"{where}: token {symbols!r} is not written in GPT-2's byte symbols")
    return bytes(table[symbol] for symbol in symbols)


def _check_merges(ranks: dict[bytes, int], merges: list[tuple[bytes, bytes]], where: str) -> None:
    """Raise ValueError unless joining by rank gives what the list of merges gives."""
    makers: dict[bytes, set[tuple[bytes, bytes]]] = {token: set() for token in ranks if len(token) > 1}
    last = -1
    for pair in merges:
        token = pair[0] + pair[1]
        if token not in ranks:
            raise ValueError(f"{where}: the merge {pair} makes no token of the vocabulary")
        if ranks[token] < last:
            raise ValueError(f"{where}: the merge {pair} is out of the order of ids; our engine merges by id")
        last = ranks[token]
        makers[token].add(pair)
    for token, pairs in makers.items():
        if last_pair(token, ranks) not in pairs:
            raise ValueError(f"{where}: token {token!r} is not reached by its merges when merged by id")


def to_symbols(token: bytes) -> str:
    """Return a token in GPT-2's byte symbols."""
    return "".join(_symbols()[byte] for byte in token)


@cache
def _symbols() -> dict[int, str]:
    return {byte: symbol for symbol, byte in byte_symbols().items()}


def merges_of(tokenizer: Tokenizer) -> list[tuple[bytes, bytes]]:
    """Return the merges of a byte-level BPE in order: the pair that makes each token, by id.

    Raises ValueError for a token that no pair makes.
    """
    ranks = dict(zip(tokenizer.tokens, tokenizer.ordinary_ids, strict=True))
    merges = []
    for token in tokenizer.tokens:
        if len(token) == 1:
            continue
        pair = last_pair(token, ranks)
        if len(pair) != 2:
            raise ValueError(f"tokenizer: no merge makes {token!r}; such a vocabulary cannot be exported")
        merges.append((pair[0], pair[1]))
    return merges


def last_pair(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, ...]:
    """Join the bytes of a token by rank, below its own; return the parts that are left."""
    parts = [token[i : i + 1] for i in range(len(token))]
    below = ranks[token]
    while len(parts) > 2:
        joined = [ranks.get(a + b, below) for a, b in itertools.pairwise(parts)]
        best = min(joined)
        if best >= below:
            break
        i = joined.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(parts)
