"""Which parameter is updated how: Muon for the blocks' matrices, AdamW for the rest, decay on matrices."""

from torch import Tensor, nn


def split_parameters(model: nn.Module, *, muon: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return (Muon's matrices, AdamW with decay, AdamW without decay) of the trainable parameters.

    Routers stay with AdamW: an orthogonalized router update moves every expert's logit alike.
    """
    matrices: list[Tensor] = []
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_block = name.startswith("blocks.") and "router" not in name
        if parameter.ndim < 2:
            plain.append(parameter)
        elif muon and in_block:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    return matrices, decayed, plain
