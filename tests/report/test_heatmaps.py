"""gpt/report/heatmaps.py: the weights drawn are the weights that the model uses."""

from pathlib import Path

import pytest
import torch

from gpt.catalog.open_model import open_model
from gpt.model.config import ModelConfig
from gpt.report.heatmaps import MAX_TOKENS, draw_heads, head_weights
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import random_model, save_tiny
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("mode", ["modern", "gpt2_mode"])
def test_weights_give_back_the_model_s_own_attention(mode: str, request: pytest.FixtureRequest) -> None:
    """Guards: heatmaps of un-rotated, un-normalized or un-normed queries, which look just as convincing."""
    model = random_model(request.getfixturevalue(mode))
    ids = torch.tensor([[5, 90, 17, 200, 3, 64]])
    outputs: list[torch.Tensor] = []
    inputs: list[tuple] = []

    def record(module: torch.nn.Module, args: tuple, output: tuple) -> None:
        inputs.append(args)
        outputs.append(output[0])

    for block in model.blocks:
        block.attention.register_forward_hook(record)
    with torch.no_grad():
        model(ids)
        hooked = len(outputs)
        weights = head_weights(model, ids)
        for layer, block in enumerate(model.blocks):
            x, rope = inputs[layer][:2]
            _, _, v = block.attention.project(x, rope)  # (B, T, G, D)
            v = v.repeat_interleave(4 // v.shape[2], dim=2)  # (B, T, H, D)
            mixed = torch.einsum("bhts,bshd->bthd", weights[layer], v).flatten(2)  # (B, T, C)
            expected = block.attention.o_proj(mixed)
            assert torch.allclose(expected, outputs[layer], atol=TOLERANCE["attention_vs_reference"])
    assert hooked == model.config.n_layers


def test_heads_are_spread_causal_and_sum_to_one(
    tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer
) -> None:
    """Guards: four heads of the first layer, tokens that look ahead, a text that outgrows the context.

    2 layers x 4 heads = 8 places; every second one from the second on: (0,1) (0,3) (1,1) (1,3).
    """
    save_tiny(tmp_path / "pretrain/checkpoint", modern, tokenizer)
    opened = open_model(str(tmp_path / "pretrain/checkpoint"))
    drawn = draw_heads(opened, "Shall I compare thee? " * 40, 4)
    assert [(head["layer"], head["head"]) for head in drawn["heads"]] == [(0, 1), (0, 3), (1, 1), (1, 3)]
    assert drawn["model"] == "pretrain"
    assert len(drawn["tokens"]) == MAX_TOKENS
    for head in drawn["heads"]:
        for i, row in enumerate(head["weights"]):
            assert sum(row) == pytest.approx(1, abs=MAX_TOKENS * 0.5e-4)
            assert not any(row[i + 1 :])
    assert len(draw_heads(opened, "Shall", 99)["heads"]) == 8
