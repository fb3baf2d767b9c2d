"""The answer to POST /v1/chat/completions."""

from collections.abc import Sequence
from typing import Any

from gpt.generate.generate_text import Piece, TokenText
from gpt.serve.reply import Reply


class ChatReply(Reply):
    """Assistants' turns; each is streamed as deltas after one that names the role."""

    id_prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self) -> list[dict[str, Any]]:
        """Return a chunk for each choice that names the role."""
        delta = {"role": "assistant", "content": ""}
        choices = [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            for index in range(self.n_choices)
        ]
        return [self.envelope(self.chunk_object, [choice]) for choice in choices]

    def choice(
        self, index: int, text: str, tokens: Sequence[TokenText], finish_reason: str | None
    ) -> dict[str, Any]:
        """Return a choice of a whole answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return self._choice(index, {"message": message}, tokens, finish_reason)

    def chunk_choice(self, index: int, piece: Piece) -> dict[str, Any]:
        """Return the choice of a chunk; the last one may add no text."""
        delta = {"content": piece.text} if piece.text else {}
        return self._choice(index, {"delta": delta}, piece.tokens, piece.finish_reason)

    def _choice(
        self, index: int, said: dict[str, Any], tokens: Sequence[TokenText], finish_reason: str | None
    ) -> dict[str, Any]:
        content = [self._logprob(token) for token in tokens]
        logprobs = {"content": content, "refusal": None} if self.wants_logprobs else None
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish_reason}

    def _logprob(self, token: TokenText) -> dict[str, Any]:
        entry = self._entry(token.step.token_id, token.step.logprob)
        return {**entry, "top_logprobs": [self._entry(i, p) for i, p in token.step.alternatives]}

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        data = self.model.tokenizer.decode_bytes([token_id])
        return {"token": self.token_name(token_id), "logprob": logprob, "bytes": list(data)}
