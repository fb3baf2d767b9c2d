"""How our Triton kernels are started: whether they can run here, and which of their choices is the fastest.

On a GPU a kernel is timed once per shape class with every choice of its list, and the fastest is kept for
the process; under torch.use_deterministic_algorithms the first that fits is taken, since another block size
rounds otherwise. In Triton's interpreter (TRITON_INTERPRET=1 when Triton is imported) blocks are small and
fixed: what is tested there is arithmetic.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources, PTXASError
from triton.testing import do_bench

Choice = TypeVar("Choice", bound=Hashable)
INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether kernels run in the interpreter, which is decided when they are imported."""
chosen: dict[tuple[Any, ...], Any] = {}
"""What was found fastest in this process, by kernel and shape class."""


def fastest(run: Callable[[Choice], Any], choices: Sequence[Choice], dial: str, instead: str) -> Choice:
    """Return the choice that runs in the least time, or the first that runs where results must repeat."""
    times: dict[Choice, float] = {}
    for choice in choices:
        try:
            run(choice)
        except (OutOfResources, PTXASError):  # this device has less shared memory or fewer registers
            continue
        if torch.are_deterministic_algorithms_enabled():
            return choice
        times[choice] = do_bench(lambda choice=choice: run(choice), warmup=5, rep=20)
    if not times:
        raise ValueError(f"{dial} fits none of its tiles on this GPU; {instead}")
    return min(times, key=times.__getitem__)


def tuned(
    run: Callable[[Choice], Any],
    *,
    key: tuple[Any, ...],
    choices: Sequence[Choice],
    fixed: Choice,
    like: Tensor,
    dial: str,
    instead: str,
) -> None:
    """Run with the fastest choice for `key` on the device of `like`, or with `fixed` in the interpreter.

    A run must do the same when it is repeated: nothing that it reads may be what it wrote.
    """
    if INTERPRETED:
        run(fixed)
        return
    key = (*key, torch.are_deterministic_algorithms_enabled())
    with torch.cuda.device_of(like):  # Triton launches on the current device, whatever it is given
        if key not in chosen:
            chosen[key] = fastest(run, choices, dial, instead)
        run(chosen[key])


def check(x: Tensor, dial: str, instead: str) -> None:
    """Raise ValueError that names the dial when its kernel cannot run on x; `instead` says what to type."""
    if x.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"{dial} runs on CUDA, the tensors are on {x.device.type}; {instead}, or type "
            "TRITON_INTERPRET=1 in front of the command to test it in Triton's slow interpreter"
        )
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"{dial} takes float32, float16 or bfloat16, got {x.dtype}; {instead}")
