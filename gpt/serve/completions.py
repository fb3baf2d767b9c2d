"""The answer to POST /v1/completions."""

from collections.abc import Sequence
from typing import Any

from gpt.catalog.open_model import OpenModel
from gpt.generate.generate_text import Piece, TokenText
from gpt.serve.echo import Echo
from gpt.serve.reply import Reply

Logprobs = dict[str, list[Any]]


class CompletionReply(Reply):
    """Text completions; streamed chunks have the shape of the whole. Of P prompts with n texts each, choice
    i continues prompt i // n."""

    id_prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(
        self, model: OpenModel, prompts: Sequence[Sequence[int]], n: int, *, wants_logprobs: bool
    ) -> None:
        super().__init__(model, prompts, n, wants_logprobs=wants_logprobs)
        self.echoes: Sequence[Echo] = ()
        """One for each prompt, set before anything is said, where they are wanted."""

    def opening(self) -> list[dict[str, Any]]:
        """Return the prompts themselves, where they are echoed."""
        if not self.echoes:
            return []
        choices = [self._choice(index, *self._echo(index), None) for index in range(self.n_choices)]
        return [self.envelope(self.chunk_object, [choice]) for choice in choices]

    def choice(
        self, index: int, text: str, tokens: Sequence[TokenText], finish_reason: str | None
    ) -> dict[str, Any]:
        """Return a choice of a whole answer."""
        before, entries = self._echo(index)
        if entries is not None:
            own = self._logprobs(tokens, len(before))
            entries = {key: entries[key] + own[key] for key in own}
        return self._choice(index, before + text, entries, finish_reason)

    def chunk_choice(self, index: int, piece: Piece) -> dict[str, Any]:
        """Return the choice of a chunk."""
        before, _ = self._echo(index)
        entries = self._logprobs(piece.tokens, len(before)) if self.wants_logprobs else None
        return self._choice(index, piece.text, entries, piece.finish_reason)

    def _choice(
        self, index: int, text: str, logprobs: Logprobs | None, finish_reason: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

    def _echo(self, index: int) -> tuple[str, Logprobs | None]:
        """Return what stands in front of a choice's own text, and its entries when they are wanted."""
        if not self.echoes:
            return "", self._logprobs([], 0) if self.wants_logprobs else None
        echo = self.echoes[index * len(self.echoes) // self.n_choices]
        if not self.wants_logprobs:
            return echo.text, None
        entries = self._logprobs(echo.tokens, 0)
        for key in ("token_logprobs", "top_logprobs"):
            entries[key][:1] = [None] * bool(echo.tokens)  # nothing in front of the first token predicts it
        return echo.text, entries

    def _logprobs(self, tokens: Sequence[TokenText], n_chars_before: int) -> Logprobs:
        """Return four lists, an entry per token; `top_logprobs` holds the chosen token too."""
        names = [self.token_name(token.step.token_id) for token in tokens]
        chosen = [token.step.logprob for token in tokens]
        top = [{self.token_name(i): logprob for i, logprob in token.step.alternatives} for token in tokens]
        return {
            "tokens": names,
            "token_logprobs": chosen,
            "top_logprobs": [{**best, n: p} for best, n, p in zip(top, names, chosen, strict=True)],
            "text_offset": [n_chars_before + token.text_offset for token in tokens],
        }
