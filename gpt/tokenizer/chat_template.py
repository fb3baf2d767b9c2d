"""A chat as token ids: <|role|> content <|end|> ..., closed by <|endoftext|>.

Special tokens enter as ids only, so a message cannot forge a turn.
"""

from collections.abc import Sequence

from gpt.tokenizer.special_tokens import ASSISTANT, END, ROLES
from gpt.tokenizer.tokenizer import Tokenizer

Message = dict[str, str]


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """Return a whole chat's ids, and for each whether it is learned: the assistant's words and <|end|>.

    Raises ValueError for an unknown role.
    """
    ids: list[int] = []
    learned: list[bool] = []
    for message in messages:
        turn = _turn(tokenizer, message)
        ids += turn
        is_answer = message["role"] == "assistant"
        learned += [False] + [is_answer] * (len(turn) - 1)
    ids.append(tokenizer.end_of_text)
    learned.append(False)
    return ids, learned


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the ids after which the assistant speaks."""
    ids = [i for message in messages for i in _turn(tokenizer, message)]
    return [*ids, tokenizer.special_tokens[ASSISTANT]]


def _turn(tokenizer: Tokenizer, message: Message) -> list[int]:
    if message["role"] not in ROLES:
        raise ValueError(f"role: got {message['role']!r}; choose one of {', '.join(ROLES)}")
    special = tokenizer.special_tokens
    return [special[ROLES[message["role"]]], *tokenizer.encode(message["content"]), special[END]]
