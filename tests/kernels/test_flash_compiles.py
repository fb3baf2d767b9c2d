"""FlashAttention's kernels through Triton's compiler, for GPUs that need not be there.

The interpreter runs Python that the compiler refuses, and says nothing of registers. The compiler and the
assembler come with Triton and need no device.
"""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

PROGRAM = """
import json, pathlib, subprocess, sys, tempfile
import triton.backends.nvidia as nvidia
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gpt.kernels.flash_launch import CHOICES, forward_kernel, keys_kernel, queries_kernel

rows = []
kernels = (forward_kernel, queries_kernel, keys_kernel)
for capability, kernel in [(c, kernel) for c in (90, 86) for kernel in kernels]:
    choice = CHOICES[kernel.__name__][0 if capability == 90 else -1]
    head_dim, documents = 64, capability == 90
    flags = dict(HEAD_DIM=head_dim, BLOCK_Q=choice.queries, BLOCK_K=choice.keys, GROUP=1, CAUSAL=True,
                 DOCUMENTS=documents, SOFTCAP=False, UPCAST=False)
    signature = {}
    for name in kernel.arg_names:
        if name in flags:
            signature[name] = "constexpr"
        elif name.endswith(("source", "sink")):
            block = choice.keys if name.removeprefix("d")[0] in "kv" else choice.queries
            signature[name] = f"tensordesc<bf16[1, 1, {block}, {head_dim}]>"
        elif name.startswith("n_"):
            signature[name] = "i32"
        elif name in ("starts", "ends"):
            signature[name] = "*i32" if documents else "constexpr"
            flags |= {} if documents else {name: None}
        else:
            signature[name] = "*fp32" if name in ("lse", "delta") else "fp32"
    constants = {(kernel.arg_names.index(name),): value for name, value in flags.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"num_warps": choice.warps, "num_stages": choice.stages}
    made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = pathlib.Path(nvidia.__file__).parent / "bin" / "cuobjdump"
        usage = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True)
    ptx, stack = made.asm["ptx"], usage.stdout.split("STACK:")[1].split()[0]
    rows.append({
        "capability": capability, "kernel": kernel.__name__, "stack_bytes": int(stack),
        "shared_bytes": made.metadata.shared, "wgmma": "wgmma.mma_async" in ptx, "mma": "mma.sync" in ptx,
        "tma": "cp.async.bulk.tensor" in ptx,
    })
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def compiled() -> list[dict]:
    """What the compiler made of each kernel, in a process where Triton is not the interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_hopper_runs_them_from_registers_on_its_own_instructions(compiled: list[dict]) -> None:
    """Guards: code that only the interpreter accepts; a layout that loses the tensor cores' asynchronous
    products or the copy engine; tiles whose sums do not fit the registers or the shared memory (227 KiB)."""
    for row in [row for row in compiled if row["capability"] == 90]:
        assert row["wgmma"], row
        assert row["tma"], row
        assert row["stack_bytes"] == 0, row
        assert row["shared_bytes"] <= 227 * 1024, row


def test_ampere_has_a_choice_that_fits(compiled: list[dict]) -> None:
    """The last entry of each list, 99 KiB of shared memory (A10, RTX 30). Guards: a GPU without any tile."""
    for row in [row for row in compiled if row["capability"] == 86]:
        assert row["mma"], row
        assert row["shared_bytes"] <= 99 * 1024, row
