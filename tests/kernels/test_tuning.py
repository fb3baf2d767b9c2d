"""The choice of tiles, with stand-ins for the GPU: what runs, what does not fit, what is fastest."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

from triton.runtime.errors import OutOfResources

from gpt.kernels import tuning
from gpt.kernels.flash_launch import Blocks, blocks
from gpt.kernels.tuning import fastest

CHOICES = blocks((128, 128, 8, 3), (64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2))
MILLISECONDS = {CHOICES[1]: 3.0, CHOICES[2]: 1.0, CHOICES[3]: 2.0}


def run(choice: Blocks) -> None:
    """Stand in for a launch on a device that is too small for the first choice."""
    if choice == CHOICES[0]:
        raise OutOfResources(300_000, 232_448, "shared memory")
    run.last = choice  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def do_bench(function: object, **_: int) -> float:
        function()  # type: ignore[operator]
        return MILLISECONDS[run.last]  # type: ignore[attr-defined]

    monkeypatch.setattr(tuning, "do_bench", do_bench)


def test_the_fastest_that_fits_is_taken() -> None:
    """Guards: a closure that times the last choice each time; a choice that does not fit ending the run."""
    assert fastest(run, CHOICES, "a dial", "choose sdpa") == CHOICES[2]


def test_deterministic_runs_take_the_first_that_fits() -> None:
    """Guards: two runs that round differently because a clock chose their tiles."""
    torch.use_deterministic_algorithms(True)
    assert fastest(run, CHOICES, "a dial", "choose sdpa") == CHOICES[1]


def test_nothing_fits() -> None:
    """Guards: a min() of nothing as the message."""
    with pytest.raises(ValueError, match="a dial fits none of its tiles on this GPU; choose sdpa"):
        fastest(run, CHOICES[:1], "a dial", "choose sdpa")
