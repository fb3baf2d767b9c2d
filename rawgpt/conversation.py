"""The history of a chat as token ids, kept within a model's context.

What the model generated stays the ids that it generated: encoded anew, its text might give others, and then
nothing of the key-value cache of the turns before would fit the next prompt. Not here: the model, the
terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.catalog.chat_ability import turn_end
from gpt.tokenizer.chat_template import Message, encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str
    token_ids: tuple[int, ...]
    """Both turns, closed."""


class Conversation:
    """A chat that forgets its oldest exchanges when it outgrows the context; the system prompt stays."""

    def __init__(self, tokenizer: Tokenizer, context: int, system: str = "") -> None:
        self.tokenizer, self.context, self.system = tokenizer, context, system
        self.exchanges: list[Exchange] = []
        self.n_dropped = 0
        """Exchanges forgotten so far."""
        self._turn_end = turn_end(tokenizer)

    def prompt(self, question: str, max_tokens: int) -> list[int]:
        """Return the ids after which the answer comes; forgets what has no room.

        While an answer of max_tokens, or of a quarter of the context if that is less, does not fit behind
        the prompt, the oldest exchanges go, and further until half of the context is free: each time the
        front of the prompt changes, all of it is computed anew. Raises ValueError for a question that does
        not fit alone.
        """
        fixed = [*self._system_ids(), *self._turn("user", question)]
        if len(fixed) >= self.context:
            raise ValueError(
                f"question: with the system prompt {len(fixed)} tokens, but the context is {self.context}; "
                "shorten it"
            )
        sizes = [len(exchange.token_ids) for exchange in self.exchanges]
        if len(fixed) + sum(sizes) + min(max_tokens, self.context // 4) > self.context:
            while sizes and len(fixed) + sum(sizes) > self.context // 2:
                sizes.pop(0)
        n_gone = len(self.exchanges) - len(sizes)
        del self.exchanges[:n_gone]
        self.n_dropped += n_gone
        history = [i for exchange in self.exchanges for i in exchange.token_ids]
        return [*self._system_ids(), *history, *self._turn("user", question)]

    def add(self, question: str, answer: str, answer_ids: Sequence[int]) -> None:
        """Remember an exchange; the ids may end with a special token, which the turn's end replaces."""
        ids = list(answer_ids)
        if ids and ids[-1] in self.tokenizer.special_tokens.values():
            ids.pop()
        token_ids = (*self._turn("user", question), *ids, *self._turn_end)
        self.exchanges.append(Exchange(question=question, answer=answer, token_ids=token_ids))

    def clear(self) -> None:
        """Forget every exchange; the system prompt stays."""
        self.exchanges.clear()
        self.n_dropped = 0

    @property
    def messages(self) -> list[Message]:
        """The chat as messages, without what was forgotten."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer})
        return messages

    def _system_ids(self) -> list[int]:
        if not self.system:
            return []
        opening = encode_prompt(self.tokenizer, [])  # the assistant's, which follows no system prompt
        return self._turn("system", self.system)[: -len(opening)]

    def _turn(self, role: str, text: str) -> list[int]:
        """Return a turn, and the opening of the assistant's behind it."""
        return encode_prompt(self.tokenizer, [{"role": role, "content": text}])
