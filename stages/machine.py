"""The device and the threads that a stage computes with."""

import torch

from stages.runner import MachineConfig


def prepare_machine(machine: MachineConfig) -> torch.device:
    """Fix threads and determinism; return the device. Raises ValueError when it is not there."""
    torch.set_num_threads(machine.threads)
    torch.use_deterministic_algorithms(True, warn_only=machine.device != "cpu")
    return find_device(machine)


def find_device(machine: MachineConfig) -> torch.device:
    """Return the device. Raises ValueError when it is not there."""
    device = torch.device(machine.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("machine.device: cuda is asked for, but torch sees no GPU; write cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("machine.device: mps is asked for, but torch sees none; write cpu")
    return device
