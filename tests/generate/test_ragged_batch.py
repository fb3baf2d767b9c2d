"""gpt/generate/ragged_batch.py: a row among others is the row alone."""

import torch

from gpt.generate.ragged_batch import RaggedBatch
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.generate.tiny_checkpoint import random_model

PROMPTS = [[5, 3, 8, 1, 9], [7], [2, 2, 4]]
N_TOKENS = 6


@torch.inference_mode()
def greedy(model: Transformer, prompts: list[list[int]]) -> list[list[int]]:
    batch = RaggedBatch(model, prompts, N_TOKENS)
    for place, logits in batch.steps():
        assert logits.dtype == torch.float32
        is_prompt = place < batch.lengths
        batch.ids[:, place] = torch.where(is_prompt, batch.ids[:, place], logits.argmax(dim=-1))
    rows = zip(batch.ids.tolist(), prompts, strict=True)
    return [row[: len(prompt) + N_TOKENS] for row, prompt in rows]


def test_a_row_among_others_is_the_row_alone(modern: ModelConfig, gpt2_mode: ModelConfig) -> None:
    """Guards: a prompt overwritten by what was chosen, positions of the longest row given to all, a short
    row that sees its neighbours' padding. Learned positions and rotary ones."""
    for config in (modern, gpt2_mode):
        model = random_model(config)
        together = greedy(model, PROMPTS)
        assert [row[: len(p)] for row, p in zip(together, PROMPTS, strict=True)] == PROMPTS
        assert together == [greedy(model, [prompt])[0] for prompt in PROMPTS]


@torch.inference_mode()
def test_against_whole_sequences(modern: ModelConfig) -> None:
    """Guards: a cache read at the wrong place. Each token is the likeliest behind all before, uncached."""
    model = random_model(modern)
    for row, prompt in zip(greedy(model, PROMPTS), PROMPTS, strict=True):
        logits = model(torch.tensor([row]))[0]
        assert logits.argmax(dim=-1)[len(prompt) - 1 : -1].tolist() == row[len(prompt) :]
