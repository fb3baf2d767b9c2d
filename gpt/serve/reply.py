"""What both kinds of answer share: identity, choices, token names, usage. The kinds are completions.py and
chat.py."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from gpt.catalog.open_model import OpenModel
from gpt.generate.generate_text import Piece, TokenText


class Reply(ABC):
    """Turns pieces of text into the JSON bodies of one request's answer; a choice is one text of it."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def __init__(
        self, model: OpenModel, prompts: Sequence[Sequence[int]], n: int, *, wants_logprobs: bool
    ) -> None:
        self.model = model
        self.n_prompt_tokens = sum(map(len, prompts))
        self.n_choices = len(prompts) * n
        self.wants_logprobs = wants_logprobs
        self.id = f"{self.id_prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.n_cached_tokens: int | None = None
        """Prompt tokens that the engine found in its cache; None where it does not tell."""
        self._n_tokens: dict[int, int] = {}

    @abstractmethod
    def choice(
        self, index: int, text: str, tokens: Sequence[TokenText], finish_reason: str | None
    ) -> dict[str, Any]:
        """Return a choice of a whole answer."""

    @abstractmethod
    def chunk_choice(self, index: int, piece: Piece) -> dict[str, Any]:
        """Return the choice of a streamed chunk."""

    def opening(self) -> list[dict[str, Any]]:
        """Return the chunks in front of the first piece."""
        return []

    def whole(self, pieces: Mapping[int, Sequence[Piece]]) -> dict[str, Any]:
        """Return the body of an answer that is not streamed, of each choice's pieces."""
        choices = []
        for index, own in sorted(pieces.items()):
            text = "".join(piece.text for piece in own)
            tokens = [token for piece in own for token in piece.tokens]
            choices.append(self.choice(index, text, tokens, own[-1].finish_reason))
            self._n_tokens[index] = own[-1].n_tokens
        return {**self.envelope(self.whole_object, choices), "usage": self.usage()}

    def chunk(self, index: int, piece: Piece) -> dict[str, Any] | None:
        """Return the streamed chunk of a piece; None when it says nothing yet."""
        self._n_tokens[index] = piece.n_tokens
        if not piece.text and not piece.tokens and piece.finish_reason is None:
            return None
        return self.envelope(self.chunk_object, [self.chunk_choice(index, piece)])

    def usage_chunk(self) -> dict[str, Any]:
        """Return the chunk that carries the usage alone."""
        return {**self.envelope(self.chunk_object, []), "usage": self.usage()}

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the fields of every body."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.model.sha256[:16],
            "choices": choices,
        }

    def usage(self) -> dict[str, Any]:
        """Return the token counts of what was made so far.

        A prompt counts once, however many choices it has; stop tokens are generated and so counted.
        """
        n_tokens = sum(self._n_tokens.values())
        counts: dict[str, Any] = {
            "prompt_tokens": self.n_prompt_tokens,
            "completion_tokens": n_tokens,
            "total_tokens": self.n_prompt_tokens + n_tokens,
        }
        if self.n_cached_tokens is not None:
            counts["prompt_tokens_details"] = {"cached_tokens": self.n_cached_tokens}
        return counts

    def token_name(self, token_id: int) -> str:
        """Return a token as a string; `bytes:\\xe0...` for a part of a character, as OpenAI writes it."""
        data = self.model.tokenizer.decode_bytes([token_id])
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
