"""The compiled library: its name, its cache, its refusals."""

import os
from pathlib import Path

import pytest

from gpt.kernels import compiled


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
