"""The apt source with a stand-in for apt-get: which lists it asks, and what a failure becomes."""

from pathlib import Path

import pytest

from gpt.corpus import debian_source

FRESH = 'case "$*" in *download*) touch tool_1_amd64.deb;; esac'
STALE = """case "$*" in
  *Dir::State=*update) ;;
  *Dir::State=*download*) touch tool_1_amd64.deb;;
  *) echo "E: Version '1' for 'tool' was not found" >&2; exit 100;;
esac"""
NO_VERSION = "echo \"E: Version '1' for 'tool' was not found\" >&2; exit 100"
NO_NETWORK = "echo 'E: Failed to fetch: Could not resolve host' >&2; exit 100"


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    """Forget the private lists of another test."""
    debian_source._private_state.cache_clear()


def with_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put an apt-get in front of the path that writes down its arguments; return a work folder."""
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\n{script}\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.mark.parametrize(("script", "calls"), [(FRESH, 1), (STALE, 3)])
def test_host_lists_first_then_private_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, calls: int
) -> None:
    """Guards a host with stale or empty lists: one update in a private folder, then the same download."""
    work = with_apt(tmp_path, monkeypatch, script)
    path = debian_source.download("tool", "1", "amd64", work)
    assert path.name == "tool_1_amd64.deb"
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == calls
    assert all(line.endswith(("download tool:amd64=1", "update")) for line in log)


@pytest.mark.parametrize(("script", "kind"), [(NO_VERSION, FileNotFoundError), (NO_NETWORK, ConnectionError)])
def test_failures_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type[OSError]
) -> None:
    """Guards a lost network taken for a version that is gone, which no retry brings back."""
    work = with_apt(tmp_path, monkeypatch, script)
    with pytest.raises(OSError, match="apt-get download tool:amd64=1: ") as caught:
        debian_source.download("tool", "1", "amd64", work)
    assert caught.type is kind


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a traceback on macOS."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="this host has no apt-get"):
        debian_source.download("tool", "1", "amd64", tmp_path)
