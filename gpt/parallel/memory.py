"""Bytes that a rank holds: by the formula, and as measured, side by side. Activations are not in it.

at rest   16 P / W          fp32 masters 4, gradients 4, AdamW's two moments 8; spread experts likewise
borrowed  the wholes of the root unit and of 1 + prefetch units, in the compute dtype
on the way back, too        the whole gradients of the root and of one unit (compute dtype), and what one
                            reduce-scatter sends and receives (reduce dtype)
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.profiler import ProfilerActivity, profile

from gpt.parallel.process_group import Pending
from gpt.parallel.zero3 import Zero3

SLACK = 0.05
"""Share by which measured and computed may differ: padding, activations, gradients of a few norms."""


TRIES = 5
"""Steps, the least peak of which counts: what one of gloo's threads is the last to release, the profiler does
not see released."""
PATIENCE_S = 0.002
"""How long a measured step waits after each collective, so that gloo's threads are not the last."""


def formula(zero3: Zero3) -> dict[str, float]:
    """Return the bytes of a rank in the middle of a backward pass with AdamW, part by part."""
    group, root = zero3.group, zero3.units[0]
    sizes = [sum(slot.shape.numel() for flat in unit.flats for slot in flat.slots) for unit in zero3.units]
    per_rank, block = sum(sizes) / group.world_size, max(sizes[1:])
    per_rank += sum(parameter.numel() for parameter in zero3.experts.parameters.values())
    compute, reduce = root.flats[0].compute_dtype.itemsize, root.flats[0].reduce_dtype.itemsize
    # what comes back beside what is sent: one's own part, all parts before their sum, or nothing
    received = {"nccl": 1 / group.world_size, "gloo": 1.0}[group.backend] if group.world_size > 1 else 0.0
    n_borrowed = min(1 + zero3.prefetch, len(sizes) - 1)
    return {
        "masters": 4 * per_rank,
        "gradients": 4 * per_rank,
        "moments": 8 * per_rank,
        "borrowed": compute * (sizes[0] + n_borrowed * block),
        "whole gradients": compute * (sizes[0] + block),
        "reduction": reduce * block * (1 + received),
    }


def held(zero3: Zero3, optimizer: Optimizer) -> dict[str, int]:
    """Return the bytes that the tensors of a rank take between two steps, part by part."""
    states = [state.values() for state in optimizer.state.values()]
    moments = [value for values in states for value in values if isinstance(value, Tensor)]
    experts = list(zero3.experts.parameters.values())
    gradients = [flat.grad_shard for flat in zero3.flats] + [parameter.grad for parameter in experts]
    return {
        "masters": _bytes([*(flat.shard for flat in zero3.flats), *experts]),
        "gradients": _bytes([gradient for gradient in gradients if gradient is not None]),
        "moments": _bytes(moments),
        "borrowed": _bytes([flat.whole for flat in zero3.flats]),
    }


def peak_above(function: Callable[[], object], device: torch.device) -> int:
    """Return how many bytes torch held at most while the function ran, above what it held before.

    On a GPU the caching allocator counts; on a CPU the profiler adds up every allocation and release.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results = profiler.profiler.kineto_results
    changes = [event for event in results.events() if event.name() == "[memory]"]
    level = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak


def account(zero3: Zero3, optimizer: Optimizer, step: Callable[[], object]) -> tuple[float, int, str]:
    """Return (bytes by the formula, bytes measured during `step`, both printed side by side).

    `step` is a whole training step, not the first, which makes the moments. It must accumulate over two
    micro batches: with one alone the gradients come as the units go, and the peak is lower.
    """
    computed = formula(zero3)
    _drop_cleared(zero3)
    before = held(zero3, optimizer)
    tries = []
    for _ in range(TRIES):
        _drop_cleared(zero3)
        tries.append(peak_above(partial(_patiently, step), zero3.group.device))
    above = min(tries)
    after = held(zero3, optimizer)
    at_rest = ("masters", "gradients", "moments")
    rows = [(name, computed[name], after[name]) for name in at_rest]
    borrowed = sum(value for name, value in computed.items() if name not in at_rest)
    rows.append(("borrowed, on the way back", borrowed, above - after["gradients"] + before["gradients"]))
    rows.append(("peak", sum(computed.values()), sum(before.values()) + above))
    lines = [f"{'bytes of one rank':26} {'formula':>15} {'measured':>15}"]
    lines += [f"{name:26} {by_formula:15,.0f} {measured:15,}" for name, by_formula, measured in rows]
    return rows[-1][1], rows[-1][2], "\n".join(lines)


def _patiently(step: Callable[[], object]) -> None:
    """Run a step whose collectives end with a short sleep."""
    wait = Pending.wait

    def patient_wait(pending: Pending) -> Tensor:
        result = wait(pending)
        time.sleep(PATIENCE_S)
        return result

    Pending.wait = patient_wait  # type: ignore[assignment]
    try:
        step()
    finally:
        Pending.wait = wait  # type: ignore[method-assign]


def _drop_cleared(zero3: Zero3) -> None:
    """Release cleared gradients: the profiler would miss the end of what it has not seen made."""
    for flat in zero3.flats:
        flat.drop_cleared()


def _bytes(tensors: Sequence[Tensor]) -> int:
    """Return the bytes of the tensors' memory, each block of it once, freed ones as nothing."""
    return sum({s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in tensors)}.values())
