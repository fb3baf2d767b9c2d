"""The first process: compiled to the same bytes wherever it is compiled."""

import struct
from pathlib import Path

import pytest

from gpt.enclave import init_build


def test_two_folders_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a path, a time or a build id in the program: PCR1 would differ on every machine."""
    programs = []
    for name in ("one", "another/and/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        source = folder / "init.c"
        source.write_bytes(init_build.SOURCE.read_bytes())
        monkeypatch.chdir(folder)
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        programs.append(init_build.build_init(source))
    assert programs[0] == programs[1]
    assert str(tmp_path).encode() not in programs[0]
    # ELF, 64 bit, executable (not PIE), x86-64; no program header of type INTERP (3) or DYNAMIC (2)
    kind, machine = struct.unpack_from("<HH", programs[0], 16)
    assert (programs[0][:5], kind, machine) == (b"\x7fELF\x02", 2, 62)
    (table,) = struct.unpack_from("<Q", programs[0], 32)
    size, count = struct.unpack_from("<HH", programs[0], 54)
    kinds = {struct.unpack_from("<I", programs[0], table + size * i)[0] for i in range(count)}
    assert kinds.isdisjoint({2, 3})


def test_a_refused_source_shows_the_compilers_words(tmp_path: Path) -> None:
    """Guards an empty init in the image after a failed compilation."""
    source = tmp_path / "init.c"
    source.write_text("int broken(")
    with pytest.raises(ValueError, match="refused it"):
        init_build.build_init(source)
