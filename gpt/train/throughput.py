"""Model FLOPs utilization: the model's own arithmetic over what the machine can do at best.

On a known GPU the peak is the vendor's dense bf16 figure; elsewhere it is measured: a square matmul.
"""

import time

import torch

PEAK_BF16_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "A10G": 70e12, "4090": 165e12}
MATMUL_SIZE = 1024


def peak_flops(device: torch.device) -> float:
    """Return FLOPs per second: from the table, else the best of a few fp32 matmuls."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key, peak in PEAK_BF16_FLOPS.items():
            if key in name:
                return peak
    a = torch.ones(MATMUL_SIZE, MATMUL_SIZE, device=device)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * MATMUL_SIZE**3 / best
