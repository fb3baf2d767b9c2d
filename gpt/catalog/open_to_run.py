"""open_model for answering alone: packed linears on a CPU go into the form that is fastest there.

Stages that measure, and exports, call open_model: what they see hangs on the checkpoint, not on the machine.
"""

import sys
from pathlib import Path

from gpt.catalog.open_model import OpenModel, open_model
from gpt.quantize.cpu_model import Head, prepare_for_cpu
from gpt.quantize.quantized_linear import QuantizedLinear


def open_to_run(
    reference: str,
    *,
    root: Path = Path("models"),
    device: str = "cpu",
    int4_backend: str = "auto",
    packed_head: Head = "int8",
) -> OpenModel:
    """Open what a reference means; of a 4-bit model on a CPU, say on stderr how it will be computed.

    Raises ValueError as `open_model` and `prepare_for_cpu` do: also for a backend that is named for a model
    without packed linears or for another device.
    """
    opened = open_model(reference, root=root, device=device)
    is_packed = any(isinstance(module, QuantizedLinear) for module in opened.model.modules())
    if opened.device != "cpu" and int4_backend != "auto":
        raise ValueError(
            f"int4_backend: {int4_backend} is for the CPU, the device is {opened.device}; leave it out"
        )
    if opened.device == "cpu" and (is_packed or int4_backend != "auto"):
        head = packed_head if int4_backend in ("auto", "c") else "float"
        report = prepare_for_cpu(opened.model, backend=int4_backend, head=head)
        print(f"{opened.name}: {report}", file=sys.stderr)
    return opened
