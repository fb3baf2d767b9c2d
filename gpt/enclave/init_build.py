"""Compile init.c to a free-standing x86-64 Linux program, the same bytes on every host, with zig."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "init.c"
FLAGS = [
    *("-target", "x86_64-linux-none", "-mcpu=x86_64", "-static", "-ffreestanding", "-nostdlib"),
    *("-std=c11", "-Wall", "-Wextra", "-Werror"),
    *("-Os", "-s", "-g0", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all"),
    "-Wl,--build-id=none",
]
LIMIT_S = 120


def compiler_name() -> str:
    """Return compiler and version: part of what makes the bytes."""
    return f"ziglang {importlib.metadata.version('ziglang')}"


def build_init(source: Path = SOURCE) -> bytes:
    """Return the program. Raises ValueError with the compiler's words when it refuses the source."""
    with tempfile.TemporaryDirectory(prefix="rawgpt-init-") as folder:
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        shutil.copyfile(source, Path(folder) / SOURCE.name)  # relative names only: no path in the bytes
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", "init", SOURCE.name]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
        if done.returncode:
            raise ValueError(f"{source}: {compiler_name()} refused it:\n{done.stderr.strip()}")
        return (Path(folder) / "init").read_bytes()
