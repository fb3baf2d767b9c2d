"""LayerNorm and RMSNorm by one name.

Sources: Ba et al. 2016 (LayerNorm), Zhang and Sennrich 2019 (RMSNorm).
"""

from torch import nn

from gpt.model.config import ModelConfig


def make_norm(config: ModelConfig, width: int | None = None) -> nn.Module:
    """Make the config's norm over the last axis, `dim` wide unless `width` is given."""
    width = config.dim if width is None else width
    eps, gain = config.norm_eps, config.norm_gain
    if config.norm == "layernorm":
        return nn.LayerNorm(width, eps=eps, elementwise_affine=gain, bias=config.bias)
    return nn.RMSNorm(width, eps=eps, elementwise_affine=gain)
