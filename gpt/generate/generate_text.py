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
) -> Iterator[Piece]:
    """Check the request, then generate text after `prompt_ids`, lazily.

    Every special token ends the text: none of them is text. Raises ValueError as `generate` does.
    """
    stop_ids = frozenset(tokenizer.special_tokens.values())
    steps = generate(
        model, prompt_ids, sampling, stop_ids=stop_ids, device=device, n_alternatives=n_alternatives
    )
    return _pieces(steps, tokenizer, TextStream(stop))


def _pieces(steps: Iterator[Step], tokenizer: Tokenizer, stream: TextStream) -> Iterator[Piece]:
    waiting: deque[TokenText] = deque()
    for n_tokens, step in enumerate(steps, start=1):
        reason = step.finish_reason
        text = ""
        if reason != "stop":
            data = tokenizer.decode_bytes([step.token_id])
            waiting.append(TokenText(step=step, text_offset=stream.offset_of(data)))
            text = stream.push(data)
        if reason is not None:
            text += stream.finish()
        if stream.stopped:
            reason = "stop"
        ready = []
        while waiting and waiting[0].text_offset < stream.released_chars:
            ready.append(waiting.popleft())
        yield Piece(text=text, tokens=tuple(ready), n_tokens=n_tokens, finish_reason=reason)
        if reason is not None:
            return
