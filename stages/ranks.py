"""A stage on several ranks: started here unless torchrun has, met, and left together."""

import os
import sys
from collections.abc import Callable

from gpt.parallel.launch import launch
from gpt.parallel.process_group import VARIABLES, PeerLost, ProcessGroup, open_group
from stages.machine import find_device
from stages.runner import MachineConfig, PassingFailure

Locked = Callable[[Callable[[], int]], int]


def run_on_ranks(
    name: str,
    label: str,
    argv: list[str],
    machine: MachineConfig,
    work: Callable[[ProcessGroup], int],
    locked: Locked,
) -> int:
    """Start the ranks that the dials ask for and wait, or be one of them; return the exit code.

    Rank 0 alone holds the stage's lock. Raises PassingFailure when the ranks do not meet; one that is lost
    later ends this process with the same code.
    """
    parallel, is_rank = machine.parallel, VARIABLES[0] in os.environ
    if parallel.ranks > 1 and not is_rank:
        return launch([sys.executable, "-m", f"stages.{name}", *argv], parallel.ranks, label)

    def meet_and_work() -> int:
        try:
            backend = "nccl" if find_device(machine).type == "cuda" else "gloo"
            group = open_group(backend, parallel.timeout_s)  # type: ignore[arg-type]
        except PeerLost as error:
            raise PassingFailure(str(error)) from None
        with group, group.naming_losses():
            return work(group)

    return meet_and_work() if is_rank and os.environ[VARIABLES[0]] != "0" else locked(meet_and_work)
