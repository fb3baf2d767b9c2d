"""C files of this package as a shared library: compiled once, by zig or the system's cc, kept, loaded.

A library's name in the cache is a hash of the sources, the flags, and the compiler with its version, so no
machine loads what another kind of machine made, and a changed source is never hidden by an old library. Its
own SHA-256 stands behind its bytes (a loader reads ELF to its end, not the file's): what a crash cut short is
compiled again. The cache is $RAWGPT_KERNELS, or $XDG_CACHE_HOME/rawgpt/kernels, or ~/.cache/rawgpt/kernels;
one that others may write to is refused, since what lies there runs as the user. Not here: what the functions
are (int4_cpu.py).
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
FLAGS = ("-O3", "-shared", "-fPIC", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi")
"""No contraction: where a product is added unrounded stands in the source and is no compiler's choice."""
TARGETS = {
    "avx512": (("-mcpu=x86_64_v4+avx512vnni",), ("-march=x86-64-v4", "-mavx512vnni")),
    "avx2": (("-mcpu=x86_64_v3",), ("-march=x86-64-v3",)),
}
"""Instruction sets by name: zig's flags, and those of gcc and clang."""
HASH_BYTES = hashlib.sha256().digest_size
LIMIT_S = 180
"""Longest that a compiler may take."""
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def instruction_set() -> str:
    """Return the best of TARGETS that this CPU has; raises ValueError where it has none."""
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64"):
        if torch.cpu._is_avx512_supported() and torch.cpu._is_vnni_supported():
            return "avx512"
        if torch.cpu._is_avx2_supported():
            return "avx2"
    raise ValueError(
        f"int4_backend: c needs Linux on an x86-64 CPU with AVX2, this is {sys.platform} on "
        f"{platform.machine()}; choose torch or reference"
    )


@functools.cache
def compilers() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (name with version, command) of each compiler here, the preferred one first."""
    found: list[tuple[str, tuple[str, ...]]] = []
    with contextlib.suppress(
        importlib.metadata.PackageNotFoundError
    ):  # not there: a machine that only trains
        version = importlib.metadata.version("ziglang")
        found.append((f"ziglang {version}", (sys.executable, "-m", "ziglang", "cc")))
    if (path := shutil.which("cc")) is not None:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found.append((done.stdout.partition("\n")[0].strip() or path, (path,)))
    return tuple(found)


def compiler() -> tuple[str, tuple[str, ...]]:
    """Return the first of compilers(); raises ValueError where there is none."""
    if not compilers():
        raise ValueError(
            "int4_backend: c needs a compiler; type: pip install ziglang, or choose torch or reference"
        )
    return compilers()[0]


def cache_folder() -> Path:
    """Return where libraries are kept; raises ValueError where another user, root aside, may write to it."""
    if own := os.environ.get("RAWGPT_KERNELS"):
        folder = Path(own)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(base) if base else Path.home() / ".cache") / "rawgpt" / "kernels"
    try:
        found = folder.stat()
    except OSError:  # not there yet, or out of reach: build() says which
        return folder
    is_anothers = found.st_uid not in (0, os.geteuid())
    if is_anothers or found.st_mode & OTHERS_MAY_WRITE:
        why = (
            f"user {found.st_uid} owns it"
            if is_anothers
            else f"others may write to it (mode {stat.S_IMODE(found.st_mode):o}; type: chmod go-w {folder})"
        )
        raise ValueError(
            f"int4_backend: {folder}: {why}, and compiled code in it would run as you; name a folder of "
            "yours by RAWGPT_KERNELS=, or choose torch or reference"
        )
    return folder


def library_path(target: str) -> Path:
    """Return where the library of every C file here, for one of TARGETS, lies or will lie."""
    name, _ = compiler()
    digest = hashlib.sha256(repr((name, FLAGS, TARGETS[target])).encode())
    for source in sorted(FOLDER.glob("*.c")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return cache_folder() / f"int4-{target}-{digest.hexdigest()[:24]}.so"


def is_whole(path: Path) -> bool:
    """Tell whether a library is there with its hash behind it."""
    if not path.is_file():
        return False
    raw = path.read_bytes()
    return len(raw) > HASH_BYTES and hashlib.sha256(raw[:-HASH_BYTES]).digest() == raw[-HASH_BYTES:]


def build(target: str) -> Path:
    """Compile for one of TARGETS unless it is there whole; return the library's path.

    Raises ValueError with the compiler's words when it refuses, when it takes longer than LIMIT_S, and when
    the cache cannot be written or others may write to it.
    """
    path = library_path(target)
    name, command = compiler()
    try:
        if is_whole(path):
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        cache_folder()  # looked at again: somebody else may have made it in between
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as scratch:
            environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch}
            is_zig = name.startswith("ziglang")
            flags = [
                *FLAGS,
                *(("-fno-sanitize=all",) if is_zig else ()),
                *TARGETS[target][0 if is_zig else 1],
            ]
            made = Path(scratch) / path.name
            sources = [str(FOLDER / "int4_decode.c")]  # it includes the others
            done = subprocess.run(
                [*command, *flags, "-o", str(made), *sources],
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
            if done.returncode:
                raise ValueError(f"int4_backend: {name} refused {sources[0]}:\n{done.stderr.strip()[-2000:]}")
            with made.open("ab") as file:
                file.write(hashlib.sha256(made.read_bytes()).digest())
            made.replace(path)  # another process that compiled it too wrote the same
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"int4_backend: {name} took longer than {LIMIT_S} s to compile {FOLDER.name}; "
            "try again when the machine is idle, or choose torch or reference"
        ) from None
    except OSError as error:
        raise ValueError(
            f"int4_backend: cannot keep compiled code in {path.parent} ({error.strerror}); "
            "name a folder of yours by RAWGPT_KERNELS=, or choose torch or reference"
        ) from None
    return path


@functools.cache
def load(target: str) -> ctypes.CDLL:
    """Return the library for one of TARGETS, compiled if it must be; its calls release the GIL.

    It is given the OpenMP of torch, if that is loaded for all to see (Linux); else it runs on one thread.
    Raises ValueError as `build` does, and where the system refuses to load the library.
    """
    path = build(target)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ValueError(
            f"int4_backend: the system does not load {path} ({error}); where its folder is mounted noexec, "
            "name another by RAWGPT_KERNELS=, or choose torch or reference"
        ) from None
    everything = ctypes.CDLL(None)
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "sched_yield")
    if all(hasattr(everything, name) for name in names):
        library.use_threads(*(ctypes.cast(getattr(everything, name), ctypes.c_void_p) for name in names))
    return library
