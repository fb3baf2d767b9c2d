"""How fast is our W4A16 product for decoding? Beside cuBLAS in bfloat16 and PyTorch's own int4 kernel.

One row of x (and 4 and 16) times matrices of the sizes of 7B and 70B models, in groups of 128. Each call
takes another copy of W, of as many as exceed four L2 caches together, so that W is read from memory as in
decoding. Peers in turns, medians of the rounds; GB/s count the bytes of W and its scales. CUDA graphs replay
all copies at once, so that starting kernels costs nothing, as it does in a decoding engine. The peer's
weights are the same ones in its own layout (torch.ops.aten._weight_int4pack_mm, bfloat16 alone). Goals at
one row on every matrix: 2.8 times cuBLAS, 1.0 times PyTorch's int4.

    python -m benchmarks.w4a16                            (a CUDA device; some three minutes by estimate)
    TRITON_INTERPRET=1 python -m benchmarks.w4a16 --device cpu --toy         (any machine; half a minute)

Needs torch and triton alone. A rehearsal shows that the program runs; its times mean nothing and are not
kept.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_clock import Call, device_or_exit, race
from benchmarks.result_file import write_result
from gpt.kernels.int4_packing import dequantize, pack_int4
from gpt.kernels.tuning import chosen
from gpt.kernels.w4a16 import w4a16

SEED, GROUP, INNER_K_TILES = 1, 128, 8
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (8192, 8192), (28672, 8192), (8192, 28672))
"""Outputs and inputs."""
ROWS = (1, 4, 16)
GOALS = {"cublas": 2.8, "torch_int4": 1.0}
Way = Callable[[Tensor, int], Tensor]


def torch_int4(codes: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Return W in the layout of PyTorch's kernel, and scales with zeros (in/g, out, 2) in bfloat16."""
    pairs = (
        codes[:, ::2] << 4 | codes[:, 1::2]
    ).contiguous()  # (out, in/2), its high nibble is the even input
    packed = torch.ops.aten._convert_weight_to_int4pack(pairs, INNER_K_TILES)
    both = torch.stack((scales, torch.zeros_like(scales)), -1)  # its value is (code - 8) * scale + zero
    return packed, both.transpose(0, 1).contiguous().to(torch.bfloat16)


def measured(shape: tuple[int, int], rows: int, rounds: int, device: str, toy: bool) -> dict[str, Any]:
    """Return microseconds, GB/s, errors and ratios for one matrix."""
    n_outputs, n_inputs = shape
    dtype = torch.float16 if device == "cpu" else torch.bfloat16
    group = 32 if toy else GROUP
    packed_bytes = n_outputs * n_inputs // 2
    cache = torch.cuda.get_device_properties(0).L2_cache_size if device == "cuda" else 0
    copies = 2 if toy else max(2, -(-4 * cache // packed_bytes))
    generator = torch.Generator(device).manual_seed(SEED)
    codes = torch.randint(0, 16, shape, dtype=torch.uint8, generator=generator, device=device)
    scales = (0.5 + torch.rand(n_outputs, n_inputs // group, generator=generator, device=device)) / 100
    scales = scales.bfloat16().half()  # both peers can hold it
    x = torch.randn(rows, n_inputs, generator=generator, device=device).to(dtype)
    ours = [(pack_int4(codes), scales.clone()) for _ in range(copies)]
    dense = [dequantize(*ours[0]).to(dtype) for _ in range(max(2, copies // 4))]
    ways: dict[str, Way] = {
        "ours": lambda y, i: w4a16(y, *ours[i % len(ours)]),
        "cublas": lambda y, i: F.linear(y, dense[i % len(dense)]),
    }
    row: dict[str, Any] = {"outputs": n_outputs, "inputs": n_inputs, "rows": rows, "copies": copies}
    try:
        theirs = [torch_int4(codes, scales) for _ in range(copies)]
        ways["torch_int4"] = lambda y, i: torch.ops.aten._weight_int4pack_mm(
            y, theirs[i % len(theirs)][0], group, theirs[i % len(theirs)][1]
        )
        ways["torch_int4"](x, 0)
    except (
        RuntimeError,
        AttributeError,
        NotImplementedError,
    ) as error:  # not in this build or on this device
        ways.pop("torch_int4", None)
        row["torch_int4"] = f"does not run: {str(error).splitlines()[0][:160]}"
    exact = x.double() @ dequantize(*ours[0]).double().T
    row["largest_error_relative"] = {
        name: float(f"{(way(x, 0) - exact).abs().max() / exact.abs().max():.2g}")
        for name, way in ways.items()
    }
    calls = {name: repeated(way, x, copies, device) for name, way in ways.items()}
    times = race(calls, rounds, device)
    scale_bytes = scales.nbytes
    for name, spent in times.items():
        spent["us"], spent["se_us"] = (round(spent[key] / copies, 3) for key in ("us", "se_us"))
        read = dense[0].nbytes if name == "cublas" else packed_bytes + scale_bytes
        spent["gb_per_s"] = round(read / spent["us"] / 1e3, 1)
    row["times"] = times
    row["speed_over"] = {
        name: round(times[name]["us"] / times["ours"]["us"], 3) for name in times if name != "ours"
    }
    return row


def repeated(way: Way, x: Tensor, copies: int, device: str) -> Call:
    """Return one product with each copy as a call: on a GPU a graph."""

    def all_copies() -> None:
        for i in range(copies):
            way(x, i)

    if device == "cpu":
        return all_copies
    all_copies()  # chooses tiles, which a graph cannot record
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_copies()
    return graph.replay


def main() -> None:
    """Measure every matrix and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes; writes no result")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    device = device_or_exit(arguments.device, "w4a16")
    if device == "cpu" and not arguments.toy:
        parser.error("--device cpu is for rehearsals: add --toy")
    shapes = ((48, 64), (33, 128)) if arguments.toy else SHAPES
    rounds = 2 if arguments.toy else arguments.rounds
    measurements = []
    for rows in ROWS:
        for shape in shapes:
            measurements.append(measured(shape, rows, rounds, device, arguments.toy))
            print(measurements[-1], flush=True)
    goals = [
        {"matrix": [row["outputs"], row["inputs"]], "over": peer, "ratio": ratio, "goal": GOALS[peer],
         "met": ratio >= GOALS[peer]}
        for row in measurements
        if row["rows"] == 1
        for peer, ratio in row["speed_over"].items()
    ]  # fmt: skip
    result = {
        "data": "random codes and scales (synthetic)",
        "seed": SEED,
        "rounds": rounds,
        "group_size": GROUP,
        "measurements": measurements,
        "goals": goals,
        "choices": {" ".join(map(str, key)): str(choice) for key, choice in chosen.items()},
    }
    if arguments.toy:
        print(goals)
        return
    write_result("w4a16", result)


if __name__ == "__main__":
    main()
