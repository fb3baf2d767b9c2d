"""The fused Triton kernels by name: what the model asks for when it is built, and what QuantizedLinear calls.

A name that is unavailable raises; nothing falls back silently. Where Triton is missing that is when the model
is built; on a device that it cannot run on, at the first call.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

PLACES = {
    "norm": ("gpt.kernels.add_norm", "rms_norm"),
    "norm after addition": ("gpt.kernels.add_norm", "add_rms_norm"),
    "rope": ("gpt.kernels.qk_rope", "qk_rope"),
    "swiglu": ("gpt.kernels.swiglu", "swiglu"),
    "packed linear": ("gpt.kernels.w4a16", "w4a16"),
}
"""Module and function by the name in ModelConfig.fused_kernels, or by what calls it."""


def fused_kernel(name: str) -> Callable[..., Any]:
    """Return one of PLACES; raises ValueError where Triton is not installed."""
    module, function = PLACES[name]
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        what = "a packed linear on a GPU" if name == "packed linear" else f"fused_kernels: {name.split()[0]}"
        raise ValueError(
            f"{what} needs Triton, which is not installed; "
            "write fused_kernels: [] or device: cpu, or on Linux type: make setup"
        ) from None
