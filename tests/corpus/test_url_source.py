"""gpt/corpus/url_source.py: a corpus by URL comes whole, once, and is known by its hash."""

import bz2
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from gpt.corpus.collect import open_source
from gpt.corpus.download import CHUNK_BYTES
from gpt.corpus.registry import SourceUnavailable
from gpt.corpus.url_source import fetch_url

LINES = b"".join(b'{"id": %d, "text": "line %d"}\n' % (i, i) for i in range(8000))


class Server(ThreadingHTTPServer):
    """Serve one content under any name; can break off, ignore Range and hide its size."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = LINES
        self.etag = '"one"'
        self.break_after = 0
        self.ignores_range = self.hides_size = False
        self.status = 200
        self.asked: list[str] = []
        self.base = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def answer(self, verb: str) -> None:
        server = self.server
        assert isinstance(server, Server)
        asked = self.headers.get("Range")
        server.asked.append(f"{verb} {asked}" if asked else verb)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not server.ignores_range else 0
        self.send_response(206 if start else server.status)
        if not server.hides_size:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if verb == "GET":
            stop, server.break_after = server.break_after or len(server.content), 0
            self.wfile.write(server.content[start:stop])

    def do_GET(self) -> None:
        self.answer("GET")

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gpt.corpus.download.PAUSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def pack_parquet(folder: Path) -> bytes:
    rows = [json.loads(line) for line in LINES.splitlines()]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "p.parquet", row_group_size=100)
    return (folder / "p.parquet").read_bytes()


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.zst", "parquet"])
def test_records_by_url(server: Server, tmp_path: Path, kind: str) -> None:
    """Guards: a URL's suffix lost on the way, facts that say nothing of what came."""
    packed = {"jsonl": lambda: LINES, "jsonl.gz": lambda: gzip.compress(LINES)}
    packed |= {"jsonl.bz2": lambda: bz2.compress(LINES), "parquet": lambda: pack_parquet(tmp_path)}
    packed["jsonl.zst"] = lambda: pa.compress(LINES, codec="zstd", asbytes=True)
    server.content = packed[kind]()
    url = f"{server.base}/a/corpus.{kind}"
    documents, facts = open_source(url, text_field="text")
    assert [text for _, text in documents] == [f"line {i}" for i in range(8000)]
    assert facts["url"] == url
    assert facts["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert facts["bytes"] == len(server.content)


def test_it_is_downloaded_once_and_checked(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: gigabytes again at every run; a damaged cache taken for the corpus."""
    path, _ = fetch_url(f"{server.base}/c.jsonl")
    assert fetch_url(f"{server.base}/c.jsonl")[0] == path
    assert server.asked == ["HEAD", "GET"]
    assert "remove data/.cache/url-" in capsys.readouterr().err
    path.write_bytes(b"x" + LINES[1:])
    assert fetch_url(f"{server.base}/c.jsonl")[0].read_bytes() == LINES
    assert server.asked == ["HEAD", "GET"] * 2


def test_a_broken_download_goes_on(server: Server) -> None:
    """Guards: an hour's download begun anew for one lost connection."""
    server.break_after = 70_000
    assert fetch_url(f"{server.base}/c.jsonl")[0].read_bytes() == LINES
    assert server.asked == ["HEAD", "GET", f"GET bytes={CHUNK_BYTES}-"]


@pytest.mark.parametrize("change", ["etag", "range"])
def test_a_rest_that_does_not_fit_is_not_appended(
    server: Server, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Guards: two versions of a file glued together, and a whole file behind a part of itself. No hash is
    known beforehand: nothing later would notice."""
    monkeypatch.setattr("gpt.corpus.download.ATTEMPTS", 1)
    server.break_after = 70_000
    with pytest.raises(SourceUnavailable):
        fetch_url(f"{server.base}/c.jsonl")
    monkeypatch.setattr("gpt.corpus.download.ATTEMPTS", 3)
    if change == "etag":
        server.etag, server.content = '"two"', LINES.replace(b"line", b"LINE")
    else:
        server.ignores_range = True
    assert fetch_url(f"{server.base}/c.jsonl")[0].read_bytes() == server.content


@pytest.mark.parametrize(
    ("change", "message", "is_passing"),
    [
        ({"status": 404}, "HTTP 404", False),
        ({"status": 503}, "HTTP 503", True),
        ({"hides_size": True}, "does not say how large it is; download it and give its path", False),
    ],
)
def test_refusals_name_the_url(server: Server, change: dict, message: str, is_passing: bool) -> None:
    """Guards: a traceback of requests; a retry of what can never succeed."""
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(SourceUnavailable, match=message) as caught:
        open_source(f"{server.base}/c.jsonl", text_field="text")
    assert caught.value.is_passing is is_passing
    assert server.base in str(caught.value)


def test_file_urls_and_urls_of_nothing(tmp_path: Path) -> None:
    """Guards: `file://` taken for a network address, percent signs taken literally."""
    (tmp_path / "my corpus.jsonl").write_bytes(LINES)
    url = (tmp_path / "my corpus.jsonl").as_uri()
    assert "%20" in url
    path, facts = fetch_url(url)
    assert path == tmp_path / "my corpus.jsonl"
    assert facts["sha256"] == hashlib.sha256(LINES).hexdigest()
    with pytest.raises(ValueError, match="no such file on this machine"):
        fetch_url((tmp_path / "gone.jsonl").as_uri())
    with pytest.raises(ValueError, match="names no file"):
        fetch_url("https://example.org/")
