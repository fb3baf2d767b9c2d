"""The answer to POST /v1/completions."""

from collections.abc import Sequence
from typing import Any

from gpt.generate.generate_text import Piece, TokenText
from gpt.serve.reply import Reply


class CompletionReply(Reply):
    """A text completion; streamed chunks have the shape of the whole."""

    id_prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def choice(self, text: str, tokens: Sequence[TokenText], finish_reason: str | None) -> dict[str, Any]:
        """Return the choice of a whole answer."""
        logprobs = self.logprobs(tokens) if self.wants_logprobs else None
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

    def chunk_choice(self, piece: Piece) -> dict[str, Any]:
        """Return the choice of a chunk."""
        return self.choice(piece.text, piece.tokens, piece.finish_reason)

    def logprobs(self, tokens: Sequence[TokenText]) -> dict[str, Any]:
        """Return four lists, an entry per token; `top_logprobs` holds the chosen token too."""
        names = [self.token_name(token.step.token_id) for token in tokens]
        chosen = [token.step.logprob for token in tokens]
        top = [{self.token_name(i): logprob for i, logprob in token.step.alternatives} for token in tokens]
        return {
            "tokens": names,
            "token_logprobs": chosen,
            "top_logprobs": [{**best, n: p} for best, n, p in zip(top, names, chosen, strict=True)],
            "text_offset": [token.text_offset for token in tokens],
        }
