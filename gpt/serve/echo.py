"""`echo`: a prompt as the beginning of its own answer, with the logprobs of its tokens when they are wanted.

The logprobs take a pass over the prompt that is not shared with the generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt.catalog.open_model import OpenModel
from gpt.generate.engine import Step, step_of
from gpt.generate.generate_text import TokenText
from gpt.generate.text_stream import TextStream

CHUNK = 64
"""Positions whose logits (CHUNK, V) are held at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Echo:
    """One prompt."""

    text: str
    tokens: Sequence[TokenText]
    """Empty unless logprobs are wanted; the first one's logprob means nothing."""


NO_ECHO = Echo(text="", tokens=())
"""Of an empty prompt, though a token stands for it."""


def echo_of(opened: OpenModel, prompt_ids: Sequence[int], n_alternatives: int | None) -> Echo:
    """Return a prompt's echo; with n_alternatives, its tokens too. To be called in the engines' thread.

    Raises FloatingPointError when a logprob is not finite: the weights are damaged.
    """
    text = opened.tokenizer.decode(prompt_ids)
    if n_alternatives is None:
        return Echo(text=text, tokens=())
    steps = [Step(token_id=prompt_ids[0], logprob=0.0, alternatives=(), finish_reason=None)]
    with torch.inference_mode():
        ids = torch.tensor([prompt_ids], device=opened.device)  # (1, T)
        x = opened.model.hidden_states(ids)  # (1, T, C)
        for start in range(0, len(prompt_ids) - 1, CHUNK):
            logits = opened.model.logits(x[:, start : start + CHUNK])[0].float().cpu()  # (CHUNK, V)
            if not torch.isfinite(logits).all():
                raise FloatingPointError("the model's logits are not finite; its training diverged")
            following = prompt_ids[start + 1 : start + 1 + CHUNK]
            steps += [
                step_of(row, token_id, n_alternatives=n_alternatives, is_stop=False, is_full=False)
                for row, token_id in zip(logits, following, strict=False)
            ]
    stream, tokens = TextStream(), []
    for step in steps:
        data = opened.tokenizer.decode_bytes([step.token_id])
        tokens.append(TokenText(step=step, text_offset=stream.offset_of(data)))
        stream.push(data)
    return Echo(text=text, tokens=tokens)
