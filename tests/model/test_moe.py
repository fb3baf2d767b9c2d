"""gpt/model/moe.py: the dropless mixture against a loop over tokens."""

import dataclasses

import torch

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.moe import MixtureOfExperts, router_losses
from gpt.model.transformer import Transformer
from tests.tolerances import TOLERANCE


def mixture(modern: ModelConfig, **change: int) -> MixtureOfExperts:
    config = dataclasses.replace(modern, n_experts=4, **change)
    layer = MixtureOfExperts(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return layer


def test_equals_a_loop_over_tokens_with_gradients(modern: ModelConfig) -> None:
    """Guards: tokens scattered back to the wrong row, weights paired with the wrong expert."""
    layer = mixture(modern)
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = layer(x1)
    rows = []
    for token in x2.view(-1, 32):
        logits = layer.router.weight @ token
        probability = logits.softmax(0)
        best = sorted(range(4), key=lambda e: -logits[e].item())[:2]
        total = sum(probability[e] for e in best)
        row = torch.zeros(32)
        for e in best:
            gate = layer.experts_gate[e] @ token
            hidden = gate * torch.sigmoid(gate) * (layer.experts_up[e] @ token)
            row = row + probability[e] / total * (layer.experts_down[e] @ hidden)
        rows.append(row)
    expected = torch.stack(rows).view(2, 5, 32)
    assert (out - expected).abs().max() <= TOLERANCE["moe_vs_loop"]
    out.square().sum().backward()
    expected.square().sum().backward()
    assert x1.grad is not None
    assert x2.grad is not None
    assert (x1.grad - x2.grad).abs().max() <= 100 * TOLERANCE["moe_vs_loop"]


def test_empty_experts_are_no_fault(modern: ModelConfig) -> None:
    """Guards: a split of size zero; with one token at most two of four experts work."""
    layer = mixture(modern)
    layer(torch.randn(1, 1, 32)).sum().backward()
    assert layer.expert_load is not None
    assert int((layer.expert_load > 0).sum()) == 2


def test_balanced_router_scores_k(modern: ModelConfig) -> None:
    """By hand: with equal probabilities E * sum_e (K/E) (1/E) = K, and logsumexp of zeros is ln 4."""
    layer = mixture(modern)
    with torch.no_grad():
        layer.router.weight.zero_()
    layer(torch.randn(1, 64, 32))
    assert abs(layer.balance_loss.item() - 2) < 1e-5
    assert abs(layer.z_loss.item() - torch.tensor(4.0).log().item() ** 2) < 1e-5


def test_router_losses_are_the_mean_over_layers(modern: ModelConfig) -> None:
    """Guards: only the last layer's router being balanced."""
    model = Transformer(dataclasses.replace(modern, n_experts=4))
    init_weights(model, 0)
    model(torch.zeros(1, 8, dtype=torch.long))
    layers = [block.feed_forward for block in model.blocks]
    balance, z = router_losses(model)
    assert torch.isclose(balance, (layers[0].balance_loss + layers[1].balance_loss) / 2)
    assert torch.isclose(z, (layers[0].z_loss + layers[1].z_loss) / 2)
