"""A chat as token ids, in the form that the tokenizer's own special tokens give.

Ours: <|role|> content <|end|> ..., closed by <|endoftext|>. ChatML (SmolLM2): <|im_start|> role, newline,
content <|im_end|>, newline. Special tokens enter as ids only, so a message cannot forge a turn. No system
turn is put in front of a chat that has none.
"""

from collections.abc import Sequence

from gpt.tokenizer.special_tokens import ASSISTANT, END, IM_END, IM_START, ROLES
from gpt.tokenizer.tokenizer import Tokenizer

Message = dict[str, str]


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """Return a whole chat's ids, and for each whether it is learned: the assistant's words and their end.

    Raises ValueError for an unknown role and for a tokenizer without a chat form.
    """
    ids: list[int] = []
    learned: list[bool] = []
    for message in messages:
        opening, closing = _opening(tokenizer, message["role"]), _closing(tokenizer)
        answer = [*tokenizer.encode(message["content"]), closing[0]]
        ids += [*opening, *answer, *closing[1:]]
        is_answer = message["role"] == "assistant"
        learned += [False] * len(opening) + [is_answer] * len(answer) + [False] * len(closing[1:])
    ids.append(tokenizer.end_of_text)
    learned.append(False)
    return ids, learned


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message], role: str = "assistant") -> list[int]:
    """Return the ids after which `role` speaks."""
    ids: list[int] = []
    for message in messages:
        ids += _opening(tokenizer, message["role"]) + tokenizer.encode(message["content"])
        ids += _closing(tokenizer)
    return ids + _opening(tokenizer, role)


def _opening(tokenizer: Tokenizer, role: str) -> list[int]:
    if role not in ROLES:
        raise ValueError(f"role: got {role!r}; choose one of {', '.join(ROLES)}")
    special = tokenizer.special_tokens
    if _is_chatml(tokenizer):
        return [special[IM_START], *tokenizer.encode(f"{role}\n")]
    return [special[ROLES[role]]]


def _closing(tokenizer: Tokenizer) -> list[int]:
    """Return the token that ends a turn, and what stands between turns."""
    special = tokenizer.special_tokens
    return [special[IM_END], *tokenizer.encode("\n")] if _is_chatml(tokenizer) else [special[END]]


def _is_chatml(tokenizer: Tokenizer) -> bool:
    special = tokenizer.special_tokens
    if IM_START in special and IM_END in special:
        return True
    if ASSISTANT not in special or END not in special:
        raise ValueError("messages: this model's tokenizer has no chat tokens; send a plain prompt")
    return False
