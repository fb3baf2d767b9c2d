"""The prompt: an instruction, numbered passages as long as they fit, the question.

Passages are whole or left out, never cut: what is cited is what the model saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.rag.config import AnswerConfig
from gpt.rag.passages import Passage
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer

WITH_PASSAGES = "Use the passages to answer the question in a few words."
WITHOUT = "Answer the question in a few words."


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What the model reads."""

    ids: list[int]
    passages: tuple[Passage, ...]
    """Those that fitted, numbered from 1 in this order."""


def make_prompt(
    tokenizer: Tokenizer, question: str, passages: Sequence[Passage], config: AnswerConfig, max_seq_len: int
) -> Prompt:
    """Return the prompt with the first passages that fit beside the answer, at most config.n_passages.

    One that is too long is passed over for the next. With `passages` empty the question stands alone. Raises
    ValueError when there are some and none fits.
    """
    room = max_seq_len - config.max_tokens
    ids = _encode(tokenizer, question, (), config)
    if len(ids) > room:
        raise ValueError(
            f"question: {len(ids)} tokens with its instruction; the model's context leaves {room}: shorten it"
        )
    taken: tuple[Passage, ...] = ()
    for passage in passages:
        if len(taken) == config.n_passages:
            break
        longer = _encode(tokenizer, question, (*taken, passage), config)
        if len(longer) <= room:
            ids, taken = longer, (*taken, passage)
    if passages and not taken:
        raise ValueError(
            f"chunk.max_tokens: no passage fits the model's context of {max_seq_len} tokens beside the "
            "question; make passages shorter"
        )
    return Prompt(ids=ids, passages=taken)


def _encode(
    tokenizer: Tokenizer, question: str, passages: Sequence[Passage], config: AnswerConfig
) -> list[int]:
    parts = [WITH_PASSAGES if passages else WITHOUT]
    parts += [f"[{number}] {' '.join(passage.text.split())}" for number, passage in enumerate(passages, 1)]
    parts.append(f"Question: {question.strip()}")
    text = "\n\n".join(parts)
    if config.form == "chat":
        return encode_prompt(tokenizer, [{"role": "user", "content": text}])
    return tokenizer.encode(f"{text}\nAnswer:")
