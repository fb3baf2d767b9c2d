"""Log records to what alignment reads: encoded pairs, and prompts to answer. What is left out is counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt.corpus.preferences import Pair, with_account
from gpt.dataset.packing import Masked
from gpt.tokenizer.chat_template import encode_chat, encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a customer wrote, up to where the assistant speaks."""

    ids: tuple[int, ...]
    text: str
    account: str
    """The planted account number, which no answer may repeat."""


def answer_ids(tokenizer: Tokenizer, prompt: Sequence[dict[str, str]], answer: str) -> Masked:
    """Return prompt and answer up to the end of its turn; learned is the answer with that end."""
    ids, learned = encode_chat(tokenizer, [*prompt, {"role": "assistant", "content": answer}])
    start = len(encode_prompt(tokenizer, prompt))
    end = max(i for i, is_learned in enumerate(learned) if is_learned) + 1
    return ids[:end], [False] * start + [True] * (end - start)


def end_of_turn(tokenizer: Tokenizer) -> int:
    """Return the id with which the assistant ends its turn."""
    return answer_ids(tokenizer, [{"role": "user", "content": "?"}], "!")[0][-1]


def encode_pairs(
    tokenizer: Tokenizer, pairs: Iterable[Pair], *, seq_len: int, most: int, name: str
) -> tuple[list[Masked], list[Masked], dict[str, int]]:
    """Return chosen and rejected sides of at most `most` pairs (0 takes all), and counts.

    Left out: equal sides (they teach nothing), an empty side, and pairs of which a side is longer than
    seq_len: a cut answer would have another probability. Raises ValueError when none is left.
    """
    chosen: list[Masked] = []
    rejected: list[Masked] = []
    counts = Counter({"pairs": 0, "real_pairs": 0, "equal_sides": 0, "empty_side": 0, "too_long": 0})
    for pair in pairs:
        if most and counts["pairs"] == most:
            break
        if not pair.chosen.strip() or not pair.rejected.strip():
            counts["empty_side"] += 1
            continue
        if pair.chosen.strip() == pair.rejected.strip():
            counts["equal_sides"] += 1
            continue
        sides = [answer_ids(tokenizer, pair.prompt, text) for text in (pair.chosen, pair.rejected)]
        if max(len(ids) for ids, _ in sides) > seq_len:
            counts["too_long"] += 1
            continue
        chosen.append(sides[0])
        rejected.append(sides[1])
        counts["pairs"] += 1
        counts["real_pairs"] += not pair.synthetic
    if not chosen:
        raise ValueError(
            f"{name}: no usable preference pair ({_told(counts)}); raise logs.n_chats and train.seq_len"
        )
    return chosen, rejected, dict(counts)


def first_prompts(
    tokenizer: Tokenizer, records: Iterable[dict[str, Any]], *, longest: int, name: str
) -> tuple[list[Prompt], int]:
    """Return each chat's first message with an account number planted, and how many were too long.

    Raises ValueError when none is left.
    """
    prompts, too_long = [], 0
    for record in records:
        if record["kind"] != "chat" or record["source"] != "generated":
            continue
        messages, account = with_account(record["messages"][:1], record["id"])
        ids = tuple(encode_prompt(tokenizer, messages))
        if len(ids) > longest:
            too_long += 1
            continue
        prompts.append(Prompt(ids=ids, text=messages[-1]["content"], account=account))
    if not prompts:
        raise ValueError(
            f"{name}: no prompt of at most {longest} tokens ({too_long} are longer); raise logs.n_chats, or "
            "train.seq_len beyond rollout.answer_tokens"
        )
    return prompts, too_long


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {key.replace('_', ' ')}" for key, n in counts.items())
