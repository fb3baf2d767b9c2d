"""What both kinds of answer share: identity, token names, usage. The kinds are completions.py and chat.py."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gpt.catalog.open_model import OpenModel
from gpt.generate.generate_text import Piece, TokenText


class Reply(ABC):
    """Turns pieces of text into the JSON bodies of one request's answer."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, model: OpenModel, n_prompt_tokens: int, *, wants_logprobs: bool) -> None:
        self.model = model
        self.n_prompt_tokens = n_prompt_tokens
        self.wants_logprobs = wants_logprobs
        self.id = f"{self.id_prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    @abstractmethod
    def choice(self, text: str, tokens: Sequence[TokenText], finish_reason: str | None) -> dict[str, Any]:
        """Return the one choice of a whole answer."""

    @abstractmethod
    def chunk_choice(self, piece: Piece) -> dict[str, Any]:
        """Return the one choice of a streamed chunk."""

    def opening(self) -> list[dict[str, Any]]:
        """Return the chunks in front of the first piece."""
        return []

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        text = "".join(piece.text for piece in pieces)
        tokens = [token for piece in pieces for token in piece.tokens]
        choice = self.choice(text, tokens, pieces[-1].finish_reason)
        body = self.envelope(self.whole_object, [choice])
        return {**body, "usage": self.usage(pieces[-1].n_tokens)}

    def chunk(self, piece: Piece) -> dict[str, Any] | None:
        """Return the streamed chunk of a piece; None when it says nothing yet."""
        if not piece.text and not piece.tokens and piece.finish_reason is None:
            return None
        return self.envelope(self.chunk_object, [self.chunk_choice(piece)])

    def usage_chunk(self, n_tokens: int) -> dict[str, Any]:
        """Return the chunk that carries the usage alone."""
        return {**self.envelope(self.chunk_object, []), "usage": self.usage(n_tokens)}

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

    def usage(self, n_tokens: int) -> dict[str, int]:
        """Return the token counts; stop tokens are generated and so counted."""
        return {
            "prompt_tokens": self.n_prompt_tokens,
            "completion_tokens": n_tokens,
            "total_tokens": self.n_prompt_tokens + n_tokens,
        }

    def token_name(self, token_id: int) -> str:
        """Return a token as a string; `bytes:\\xe0...` for a part of a character, as OpenAI writes it."""
        data = self.model.tokenizer.decode_bytes([token_id])
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
