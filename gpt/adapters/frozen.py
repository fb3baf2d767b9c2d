"""The frozen base of adapters in fewer bits: bf16, or NF4 as in QLoRA (Dettmers et al. 2023).

Only the projections of the blocks are packed, as QLoRA does: embeddings, norms, a mixture's router and
experts, and an untied output projection stay as they are. Not for serving: that is what gpt/quantize packs
for.
"""

from torch import Tensor, nn

from gpt.adapters.config import TARGETS, BasePrecision
from gpt.adapters.low_rank import low_rank_linear
from gpt.kernels.nf4_packing import Nf4, dequantize, quantize

PARTS = ("packed", "scale_codes", "scale_scales", "scale_mean")


class Nf4Linear(nn.Module):
    """y = x W^T + b with W packed in NF4, made dense just in time in either direction; W learns nothing."""

    packed: Tensor
    scale_codes: Tensor
    scale_scales: Tensor
    scale_mean: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        nf4 = quantize(linear.weight)
        for name in PARTS:  # not in a state dict: a resume state holds what training changes
            self.register_buffer(name, getattr(nf4, name), persistent=False)
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias, persistent=False)

    @property
    def frozen(self) -> Nf4:
        """The packed weight."""
        return Nf4(
            packed=self.packed,
            scale_codes=self.scale_codes,
            scale_scales=self.scale_scales,
            scale_mean=self.scale_mean,
            shape=(self.out_features, self.in_features),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        return low_rank_linear(x, self.frozen, self.bias, None, None, 0.0, None)

    def extra_repr(self) -> str:
        """Show the sizes when a model is printed."""
        return f"{self.in_features}, {self.out_features}, nf4"


class Bf16Linear(nn.Module):
    """y = x W^T + b with W kept in bf16 and computed with in x's own dtype; W learns nothing."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", linear.weight.detach().bfloat16(), persistent=False)
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias, persistent=False)

    @property
    def frozen(self) -> Tensor:
        """The weight as it lies in memory."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        return low_rank_linear(x, self.weight, self.bias, None, None, 0.0, None)

    def extra_repr(self) -> str:
        """Show the sizes when a model is printed."""
        return f"{self.in_features}, {self.out_features}, bf16"


FrozenLinear = nn.Linear | Nf4Linear | Bf16Linear


def frozen_weight(base: FrozenLinear) -> Tensor | Nf4:
    """Return a base layer's weight as it lies in memory."""
    return base.weight if isinstance(base, nn.Linear) else base.frozen


def dense_linear(base: FrozenLinear) -> nn.Linear:
    """Return a base layer as a plain linear in fp32 with the values that it computes with."""
    if isinstance(base, nn.Linear):
        return base
    linear = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    weight = dequantize(base.frozen) if isinstance(base, Nf4Linear) else base.weight.float()
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if base.bias is not None:
        linear.bias = nn.Parameter(base.bias, requires_grad=False)
    return linear


def pack_base(model: nn.Module, precision: BasePrecision) -> int:
    """Keep the blocks' projections in this precision, in place; return how many were changed.

    Raises ValueError that names the dial for a matrix that NF4 does not take.
    """
    if precision == "fp32":
        return 0
    pack = Nf4Linear if precision == "nf4" else Bf16Linear
    changed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in TARGETS and name != "router" and isinstance(child, nn.Linear):
                setattr(parent, name, pack(child))
                changed += 1
    if not changed:
        raise ValueError(f"base_precision: {precision}, but the model has no plain projection to pack")
    return changed
