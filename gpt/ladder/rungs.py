"""The rungs by name, in climbing order."""

from torch import nn

from gpt.ladder.bigram import Bigram
from gpt.ladder.block import Blocks
from gpt.ladder.config import LadderModelConfig
from gpt.ladder.mlp import Mlp
from gpt.ladder.multi_head import MultiHead
from gpt.ladder.single_head import SingleHead

RUNGS: dict[str, type[nn.Module]] = {
    "bigram": Bigram,
    "mlp": Mlp,
    "single_head": SingleHead,
    "multi_head": MultiHead,
    "block": Blocks,
}


def make_rung(name: str, vocab_size: int, config: LadderModelConfig) -> nn.Module:
    """Build a rung by name."""
    return RUNGS[name](vocab_size, config)
