"""A benchmark of this folder run again as so many ranks, by torchrun."""

import os
import subprocess
import sys


def start_ranks(name: str, n_ranks: int) -> int:
    """Run `benchmarks.<name>` with the words of this command on ranks of one thread; return its exit code."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    command = [sys.executable, *launcher, "-m", f"benchmarks.{name}", *sys.argv[1:]]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode
