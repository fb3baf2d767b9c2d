"""Initial weights from one seeded generator, so that a seed names a model on any number of ranks.

GPT-2's scheme (Radford et al. 2019, section 2.3): normal(0, init_std), residual outputs scaled by
1/sqrt(2 L), norms 1, biases 0. With `zero_residual` the outputs start at zero instead.
"""

import torch
from torch import nn

from gpt.model.transformer import Transformer

LEARNED_SHARES = ("_shift.share", ".value_mix")
INITIAL_SHARE = 0.5
RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "experts_down")


@torch.no_grad()
def init_weights(
    model: Transformer, seed: int, *, init_std: float = 0.02, zero_residual: bool = False
) -> None:
    """Fill every parameter in place, in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    residual_std = init_std / (2 * model.config.n_layers) ** 0.5
    for name, parameter in sorted(model.named_parameters()):
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif name.endswith(LEARNED_SHARES):
            nn.init.constant_(parameter, INITIAL_SHARE)
        elif name == "bigram.table.weight":  # nothing is known of a pair before it is seen
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:  # norm gains
            nn.init.ones_(parameter)
        elif name.endswith(RESIDUAL_OUTPUTS):
            std = 0.0 if zero_residual else residual_std
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        else:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * init_std)
