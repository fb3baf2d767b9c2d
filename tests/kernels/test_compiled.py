"""The compiled library: its name, its cache, its refusals."""

import ctypes
import hashlib
import os
import re
import sys
from pathlib import Path

import pytest

from gpt.kernels import compiled
from gpt.kernels.int4_backends import choose_backend


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sources and a cache of their own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "int4_decode.c").write_text("int answer(void) { return 42; }\n")
    monkeypatch.setattr(compiled, "FOLDER", folder)
    monkeypatch.setenv("RAWGPT_KERNELS", str(tmp_path / "cache"))
    return folder


def test_the_name_covers_source_flags_and_compiler(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an old library behind a changed source, or one with AVX-512 on a machine without it."""
    names = {compiled.library_path("avx2")}
    names.add(compiled.library_path("avx512"))
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-g"))
    names.add(compiled.library_path("avx2"))
    monkeypatch.setattr(compiled, "compiler", lambda: ("another 1.0", ("cc",)))
    names.add(compiled.library_path("avx2"))
    (sources / "int4_cpu.c").write_text("/* one more */\n")
    names.add(compiled.library_path("avx2"))
    assert len(names) == 5


def test_it_is_compiled_once(sources: Path) -> None:
    """Guards: seconds of compiling at every start; scratch left in the cache."""
    if not compiled.compilers():
        pytest.skip("no compiler here")
    made = compiled.build("avx2")
    stamp = made.stat().st_mtime_ns
    assert compiled.build("avx2") == made
    assert made.stat().st_mtime_ns == stamp
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    assert ctypes.CDLL(str(made)).answer() == 42  # with its hash behind it


def test_a_library_cut_short_is_compiled_again(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: what a crash left of a library, which the loader refuses, or maps and dies of."""
    writes = "import sys; open(sys.argv[sys.argv.index('-o') + 1], 'wb').write(b'library' * 99)"
    monkeypatch.setattr(compiled, "compiler", lambda: ("fake 1.0", (sys.executable, "-c", writes)))
    path = compiled.build("avx2")
    whole = path.read_bytes()
    for raw in (b"", whole[: len(whole) // 2], whole[:-1], whole[:-100] + b"x" + whole[-99:]):
        path.write_bytes(raw)
        assert compiled.build("avx2") == path
        assert path.read_bytes() == whole


def unloadable() -> Path:
    """Put what no system loads where the library of this CPU belongs, with its right hash."""
    path = compiled.library_path(compiled.instruction_set())
    path.parent.mkdir(mode=0o700)
    raw = b"not a library"
    path.write_bytes(raw + hashlib.sha256(raw).digest())
    return path


@pytest.mark.parametrize("failure", ["load", "time", "folder"])
def test_auto_goes_on_with_the_reason(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Guards: an OSError of the loader (a home mounted noexec) or a compiler's TimeoutExpired that ends the
    program where another backend is at hand; code that another user may have put into the cache."""
    try:
        compiled.instruction_set()
    except ValueError:
        pytest.skip("the kernel needs Linux on x86-64 with AVX2")
    sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(compiled, "compiler", lambda: ("slow 1.0", sleeps))
    if failure == "load":
        reason = f"does not load {unloadable()}.*by RAWGPT_KERNELS=, or choose torch or reference"
    elif failure == "time":
        monkeypatch.setattr(compiled, "LIMIT_S", 0.1)
        reason = "slow 1.0 took longer than 0.1 s to compile .*or choose torch or reference"
    else:
        unloadable()
        (tmp_path / "cache").chmod(0o777)
        reason = r"others may write to it \(mode 777; type: chmod go-w .*cache\).*by RAWGPT_KERNELS="
    compiled.load.cache_clear()
    with pytest.raises(ValueError, match=reason):
        choose_backend("c", [(64, 64, 32)])
    name, why = choose_backend("auto", [(64, 64, 32)])
    assert name == "torch"
    assert re.search(reason, why)


def test_a_cache_of_another_user_is_refused(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: code run as the user out of a folder whose owner, root aside, is somebody else."""
    monkeypatch.setattr(compiled, "compiler", lambda: ("cc 1.0", ("cc",)))
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    owner = folder.stat().st_uid
    assert compiled.cache_folder() == folder
    monkeypatch.setattr(compiled.os, "geteuid", lambda: owner + 1)
    if owner:
        with pytest.raises(ValueError, match=f"user {owner} owns it.*RAWGPT_KERNELS="):
            compiled.library_path("avx2")
    else:
        assert compiled.cache_folder() == folder  # root's: an image with the library in it
        os.chown(folder, 12345, -1)
        with pytest.raises(ValueError, match=r"user 12345 owns it.*RAWGPT_KERNELS="):
            compiled.library_path("avx2")


def test_what_is_missing_is_said(sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards: a traceback of a subprocess where a sentence is needed."""
    if compiled.compilers():
        (sources / "int4_decode.c").write_text("int answer(void) { return x; }\n")
        with pytest.raises(
            ValueError, match=r"refused .*int4_decode\.c:[\s\S]*undeclared identifier|undeclared"
        ):
            compiled.build("avx2")
        if os.geteuid() != 0:
            monkeypatch.setenv("RAWGPT_KERNELS", "/proc/kernels")
        else:
            (tmp_path / "file").write_text("")
            monkeypatch.setenv("RAWGPT_KERNELS", str(tmp_path / "file" / "kernels"))
        with pytest.raises(ValueError, match="RAWGPT_KERNELS="):
            compiled.build("avx2")
    monkeypatch.setattr(compiled, "compilers", lambda: ())
    with pytest.raises(ValueError, match="pip install ziglang"):
        compiled.build("avx2")


def test_another_machine_is_told_what_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an illegal instruction on an Apple M or an old x86."""
    monkeypatch.setattr(compiled.platform, "machine", lambda: "arm64")
    with pytest.raises(ValueError, match="on arm64; choose torch or reference"):
        compiled.instruction_set()
    monkeypatch.setattr(compiled.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compiled.sys, "platform", "linux")
    found = []
    for has_512, has_vnni, has_2 in ((True, True, True), (True, False, True), (False, True, True)):
        monkeypatch.setattr(compiled.torch.cpu, "_is_avx512_supported", lambda has=has_512: has)
        monkeypatch.setattr(compiled.torch.cpu, "_is_vnni_supported", lambda has=has_vnni: has)
        monkeypatch.setattr(compiled.torch.cpu, "_is_avx2_supported", lambda has=has_2: has)
        found.append(compiled.instruction_set())
    assert found == ["avx512", "avx2", "avx2"]
    monkeypatch.setattr(compiled.torch.cpu, "_is_avx2_supported", lambda: False)
    monkeypatch.setattr(compiled.torch.cpu, "_is_avx512_supported", lambda: False)
    with pytest.raises(ValueError, match="with AVX2"):
        compiled.instruction_set()
