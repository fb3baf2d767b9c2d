"""Token ids in, pieces of text out: the engine and the text stream together.

The one place where tokens, their text and their logprobs are matched; the command line, the server and
the samples made during training all read it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import FinishReason, Step, generate
from gpt.generate.proposers import Proposer
from gpt.generate.speculative import generate_speculatively
from gpt.generate.text_stream import TextStream
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenText:
    """One token of the text."""

    step: Step
    text_offset: int
    """Character of the generated text at which the token's own text begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one step adds. The text may be empty: a character or a stop string is still open."""

    text: str
    tokens: tuple[TokenText, ...]
    """Tokens whose text this piece lets out; stop tokens and what lies behind a stop string are never in."""
    n_tokens: int
    """Tokens generated so far, stop tokens included: the usage."""
    finish_reason: FinishReason | None
    """On the last piece only."""


def generate_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    sampling: SamplingConfig,
    *,
    stop: Sequence[str] = (),
    device: torch.device | str = "cpu",
    n_alternatives: int = 0,
    proposer: Proposer | None = None,
    n_proposed: int = 4,
) -> Iterator[Piece]:
    """Check the request, then generate text after `prompt_ids`, lazily.

    Every special token ends the text: none of them is text. A proposer guesses n_proposed tokens a pass
    (speculative.py). Raises ValueError as `generate` does.
    """
    stop_ids = frozenset(tokenizer.special_tokens.values())
    if proposer is None:
        steps = generate(
            model, prompt_ids, sampling, stop_ids=stop_ids, device=device, n_alternatives=n_alternatives
        )
    else:
        steps = generate_speculatively(
            model,
            prompt_ids,
            sampling,
            proposer,
            n_proposed=n_proposed,
            stop_ids=stop_ids,
            device=device,
            n_alternatives=n_alternatives,
        )
    return _pieces(steps, PieceStream(tokenizer, stop))


def _pieces(steps: Iterator[Step], stream: "PieceStream") -> Iterator[Piece]:
    for step in steps:
        piece = stream.push(step)
        yield piece
        if piece.finish_reason is not None:
            return


class PieceStream:
    """The text of one request: its steps in, pieces out. What it holds back, it gives with the last."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = TextStream(stop)
        self._waiting: deque[TokenText] = deque()
        self._n_tokens = 0

    def push(self, step: Step) -> Piece:
        """Take a step; a piece with a finish_reason is the last, though the step had none: a stop string."""
        self._n_tokens += 1
        reason = step.finish_reason
        text = ""
        if reason != "stop":
            data = self._tokenizer.decode_bytes([step.token_id])
            self._waiting.append(TokenText(step=step, text_offset=self._stream.offset_of(data)))
            text = self._stream.push(data)
        if reason is not None:
            text += self._stream.finish()
        if self._stream.stopped:
            reason = "stop"
        ready = []
        while self._waiting and self._waiting[0].text_offset < self._stream.released_chars:
            ready.append(self._waiting.popleft())
        return Piece(text=text, tokens=tuple(ready), n_tokens=self._n_tokens, finish_reason=reason)
