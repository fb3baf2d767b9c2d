"""A quantized model in the form that is fastest on this CPU: made when it is opened to run, never saved.

Every packed linear goes into its backend's own layout (gpt/kernels/int4_backends.py), the output projection
may be packed too, and a Llama-shaped model decodes through one call a token. What a checkpoint holds, what
stages measure and what is exported is the plain model (load.py).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gpt.kernels.int4_backends import BACKENDS, Weights, choose_backend
from gpt.kernels.int4_cpu import CpuWeights, largest_group, round_to_bytes
from gpt.model.transformer import Transformer
from gpt.quantize.cpu_decoder import CpuDecoder, is_llama_shaped
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.layers import replace_module
from gpt.quantize.quantized_linear import QuantizedLinear

Head = Literal["float", "int8", "int4"]
HEADS = ("float", "int8", "int4")


class RuntimeLinear(nn.Module):
    """y = x W^T + b with W in a backend's own layout. Inference only: it has no state to save."""

    bias: Tensor | None

    def __init__(self, weights: Weights, bias: Tensor | None) -> None:
        super().__init__()
        self.weights = weights
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        y = self.weights(x)  # (..., out)
        return y if self.bias is None else y + self.bias.to(y.dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuModelReport:
    """What was chosen."""

    backend: str
    why_not_better: str
    """Of `auto`: the reasons against the backends before the chosen one."""
    head: str
    decoder: bool
    """Whether one token of one sequence goes through all blocks in one call."""
    weight_bytes: int
    """Memory of the packed linears, and of the head where it is packed."""

    def __str__(self) -> str:
        how = ", one call a token" if self.decoder else ""
        because = f" ({self.why_not_better})" if self.why_not_better else ""
        return f"int4 on the CPU by {self.backend}{how}, {self.head} head{because}"


def prepare_for_cpu(model: Transformer, *, backend: str = "auto", head: Head = "int8") -> CpuModelReport:
    """Turn a model with packed linears into its runtime form, in place.

    A head of fewer bits than float is packed for backend c alone; by auto it is where c is chosen, and
    stays float where not. Raises ValueError for a model without packed linears, an unknown or unavailable
    backend, and a head that the named backend cannot have.
    """
    packed = {name: m for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    if not packed:
        raise ValueError(
            "int4_backend: the model has no packed linears; open a quantized one, or leave it out"
        )
    if head not in HEADS:
        raise ValueError(f"packed_head: got {head!r}; choose one of {', '.join(HEADS)}")
    shapes = sorted({(m.out_features, m.in_features, m.group_size) for m in packed.values()})
    chosen, why = choose_backend(backend, shapes)
    if chosen != "c" and head != "float":
        if backend != "auto":
            raise ValueError(
                f"packed_head: {head} needs int4_backend: c, got {backend}; write packed_head: float"
            )
        head = "float"
    make, n_bytes = BACKENDS[chosen][1], 0
    for name, module in packed.items():
        weights = make(module.packed, module.scales)
        n_bytes += weights.nbytes
        replace_module(model, name, RuntimeLinear(weights, module.bias))
    if head != "float":
        packed_head = pack_head(model, head)
        n_bytes += packed_head.nbytes
        model.lm_head = RuntimeLinear(packed_head, None)  # type: ignore[assignment]
    if chosen == "c" and is_llama_shaped(model.config):
        model.decoder = CpuDecoder(model)
    return CpuModelReport(
        backend=chosen, why_not_better=why, head=head, decoder=model.decoder is not None, weight_bytes=n_bytes
    )


def pack_head(model: Transformer, head: Head) -> CpuWeights:
    """Return the output projection in 8 or 4 bits, each weight rounded to the nearest."""
    weight = model.lm_head.weight.detach().float()  # (V, C)
    group_size = largest_group(weight.shape[1])
    if head == "int8":
        return CpuWeights(*round_to_bytes(weight, group_size), bits=8)
    scales = group_scales(weight, group_size, "mse")
    return CpuWeights(round_to_nearest(weight, scales), scales, bits=4)
