"""The fused kernels and W4A16 through Triton's compiler for sm_90, on machines without a GPU."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

PROGRAM = """
import json, pathlib, subprocess, tempfile
import triton.backends.nvidia as nvidia
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gpt.kernels import add_norm, cross_entropy_rows, qk_rope, swiglu, w4a16

B, F, I, I32 = "*bf16", "*fp32", "i32", "*i32"
norm = dict(ROWS=2, BLOCK=1024)
heads = [*[I] * 5, "fp32"]
rope = dict(NORM=True, ROWS=16, BLOCK=32, PROGRAMS=528)
tile = lambda c: dict(WORDS_IN_GROUP=16, OUTPUTS=c[0], WORDS=c[1], SPLIT=c[2])
packed = [B, I32, "*fp16", B]
CASES = [
    ("swiglu", swiglu.swiglu_kernel, [B, B, None, B, None, I], dict(BLOCK=2048, BACKWARD=False), 4, 3),
    ("swiglu backward", swiglu.swiglu_kernel, [B, B, B, B, B, I], dict(BLOCK=2048, BACKWARD=True), 4, 3),
    ("norm", add_norm.forward_kernel, [F, B, F, F, B, I, I, "fp32"], norm, 4, 3),
    ("norm alone", add_norm.forward_kernel, [F, None, None, F, B, I, I, "fp32"], norm, 4, 3),
    ("norm backward", add_norm.backward_kernel, [B, F, F, F, F, F, I, I, "fp32"], norm, 4, 3),
    ("rope", qk_rope.qk_kernel, [B, B, None, None, F, F, B, B, None, None, F, F, *heads], rope, 4, 3),
    ("rope backward", qk_rope.qk_kernel, [B, B, B, B, F, F, B, B, F, F, F, F, *heads], rope, 4, 3),
    ("loss", cross_entropy_rows.rows_kernel, [B, "*i64", F, I, "fp32"],
     dict(BLOCK=cross_entropy_rows.BLOCK, SOFTCAP=True, GRADIENT=True), cross_entropy_rows.WARPS, 3),
    *[(f"w4a16 1 {c}", w4a16.vector_kernel, [*packed, I, I], tile(c), c[3], c[4])
      for c in (w4a16.VECTOR if FULL else w4a16.VECTOR[:1])],
    *[(f"w4a16 16 {c}", w4a16.matrix_kernel, [*packed, I, I, I], {**tile(c), "ROWS": 16}, c[3], c[4])
      for c in (w4a16.MATRIX if FULL else w4a16.MATRIX[:1])],
]
rows = []
for name, kernel, types, constants, warps, stages in CASES:
    names = kernel.arg_names
    types = {n: t for n, t in zip(names, types)}
    constants = {**constants, **{n: None for n, t in types.items() if t is None}}
    signature = {n: "constexpr" if n in constants else types[n] for n in names}
    # addresses and widths are multiples of 16, as they are in every model: loads become vectors
    unknown = {*constants, *(["n_words"] if kernel is w4a16.vector_kernel else [])}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names)
               if n not in unknown and (types[n][0] == "*" or types[n] == I)}
    source = ASTSource(fn=kernel, signature=signature, attrs=aligned,
                       constexprs={(names.index(n),): value for n, value in constants.items()})
    options = {"num_warps": warps, "num_stages": stages}
    made = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tools = pathlib.Path(nvidia.__file__).parent / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = subprocess.run([tools / "cuobjdump", "--dump-resource-usage", file.name],
                               capture_output=True, text=True).stdout
        if KEEP:
            pathlib.Path(KEEP, name.replace(" ", "_") + ".cubin").write_bytes(made.asm["cubin"])
    ptx = made.asm["ptx"]
    rows.append({
        "kernel": name, "stack_bytes": int(usage.split("STACK:")[1].split()[0]),
        "registers": int(usage.split("REG:")[1].split()[0]), "shared_bytes": made.metadata.shared,
        "vector_loads": any(f"{w}.b32" in ptx for w in ("ld.global.v4", "ld.global.v2"))
        or "cp.async.cg.shared.global" in ptx, "tensor_cores": "mma" in ptx,
    })
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def compiled() -> list[dict]:
    """What the compiler made of each kernel, in a process where Triton is not the interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    program = f"FULL, KEEP = False, ''\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_hopper_runs_them_from_registers(compiled: list[dict]) -> None:
    """Guards: code that only the interpreter accepts; rows that do not fit the registers; loads of single
    numbers where the memory's speed is all that counts (one row of W4A16 wants single words: see there)."""
    assert len(compiled) == 10
    for row in compiled:
        assert row["stack_bytes"] == 0, row
        assert row["shared_bytes"] <= 227 * 1024, row
        assert row["vector_loads"] is not row["kernel"].startswith("w4a16 1 "), row


def test_only_several_rows_of_w4a16_use_tensor_cores(compiled: list[dict]) -> None:
    """Guards: a product of a few rows that the compiler turns into scalar code."""
    used = [row["kernel"].startswith("w4a16 16") for row in compiled]
    assert [row["tensor_cores"] for row in compiled] == used
