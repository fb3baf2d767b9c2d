"""The doctor's single looks, each with the illness it is there to see."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gpt.corpus.sources import MIRROR_VARIABLE, Source
from gpt.kernels import compiled
from rawgpt import check_data, check_int4, check_machine, check_services
from rawgpt.check import Check
from rawgpt.doctor import table
from rawgpt.main import run


def one(look: Callable[[], Iterable[Check]]) -> Check:
    (check,) = look()
    return check


def test_lock_versions_by_marker() -> None:
    """A package of another platform reported as missing; a version with a local part misread."""
    text = (
        "# by uv\nnumpy==2.4.6 \\\n    --hash=sha256:00\n"
        "pywin32==311 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"
        "old==1.0 ; python_full_version < '3.0'\nold==2.0 ; python_full_version >= '3.0'\n    # via x\n"
    )
    assert check_machine.locked_versions(text) == {"numpy": {"2.4.6"}, "old": {"2.0"}}


def test_packages_that_differ_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that nobody compares with what is installed."""
    monkeypatch.chdir(tmp_path)
    assert one(check_machine.check_packages).status == "fail"
    lock = tmp_path / "requirements.lock"
    lock.write_text("pytest==0.0.1 \\\n    --hash=sha256:00\nnot-a-package-of-ours==1.0\n")
    check = one(check_machine.check_packages)
    assert check.status == "warn"
    assert "pytest" in check.detail
    assert "not-a-package-of-ours missing (lock: 1.0)" in check.detail
    assert check.remedy == "make setup"
    lock.write_text(f"pytest=={pytest.__version__}\n")
    assert one(check_machine.check_packages).status == "ok"


def test_a_machine_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds that never bite."""
    assert one(check_machine.check_python).status == "ok"
    monkeypatch.setattr(check_machine, "MIN_MEMORY_BYTES", 2**60)
    monkeypatch.setattr(check_machine, "MIN_DISK_BYTES", 2**60)
    monkeypatch.setattr(check_machine, "OLDEST", (3, 99))
    assert one(check_machine.check_memory).status == "warn"
    assert one(check_machine.check_disk).status == "warn"
    assert one(check_machine.check_python).status == "fail"


def test_the_int4_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that another machine would not take; a doctor that compiles or counts half a library."""
    monkeypatch.setenv("RAWGPT_KERNELS", str(tmp_path))
    monkeypatch.setattr(compiled, "instruction_set", lambda: "avx2")
    monkeypatch.setattr(compiled, "compiler", lambda: ("cc 1.0", ("cc",)))
    assert one(check_int4.check_int4).detail == "c, avx2, cc 1.0, compiled on first use, some seconds"
    compiled.library_path("avx2").write_bytes(b"half a library")
    assert one(check_int4.check_int4).detail.endswith("compiled on first use, some seconds")
    compiled.library_path("avx2").write_bytes(b"code" + hashlib.sha256(b"code").digest())
    assert one(check_int4.check_int4).detail == "c, avx2, cc 1.0, compiled"
    monkeypatch.undo()
    monkeypatch.setattr(compiled.platform, "machine", lambda: "arm64")
    check = one(check_int4.check_int4)
    assert check.status == "warn"
    assert check.detail.startswith("torch's operator or the reference: c needs Linux on an x86-64")


def test_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped mirror that is found out only when a stage fails."""
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    assert one(check_data.check_mirror).status == "ok"
    source = Source(mirror="english/x.txt")
    assert check_data.unreachable(source) == f"{MIRROR_VARIABLE} is not set"
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "nowhere"))
    assert one(check_data.check_mirror).status == "fail"
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    assert one(check_data.check_mirror).status == "ok"
    assert check_data.unreachable(source) == "not there"
    (tmp_path / "english").mkdir()
    (tmp_path / "english/x.txt").write_text("x")
    assert check_data.unreachable(source) is None


def test_sets_of_the_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A needed set that cannot be had is a failure, an optional one a warning; an own path is neither."""
    monkeypatch.chdir(tmp_path)
    assert one(check_data.check_sets).status == "fail"
    monkeypatch.setattr(check_data, "unreachable", lambda source: "no network")
    params = tmp_path / "params.yaml"
    params.write_text("fetch: {source: shakespeare, extras: [tinyshakespeare, tinyshakspeare]}\n")
    found = {check.name: check for check in check_data.check_sets()}
    assert {name: check.status for name, check in found.items()} == {
        "data shakespeare": "fail",
        "data tinyshakespeare": "warn",
        "data tinyshakspeare": "fail",
    }
    assert "no network" in found["data shakespeare"].detail
    params.write_text("fetch: {source: my.txt, extras: []}\n")
    assert one(check_data.check_sets).status == "fail"
    (tmp_path / "my.txt").write_text("mine")
    assert one(check_data.check_sets).status == "ok"


def test_services_that_answer_and_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """`installed` taken for `running`."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ("/api/health", "/health") else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    monkeypatch.setenv("RAWGPT_TRACKING", "on")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert one(check_services.check_prefect).status == "ok"
        assert one(check_services.check_mlflow).status == "ok"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert one(check_services.check_prefect).status == "warn"
    assert one(check_services.check_mlflow).status == "warn"


def test_doctor_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The whole command: --json, exit code 1, and something to type for everything that is not ok."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("RAWGPT_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run(["doctor", "--json"]) == 1
    checks = {check["name"]: check for check in json.loads(capfd.readouterr().out)}
    assert {"python", "torch", "device cpu", "memory", "disk", "packages", "data", "git"} <= set(checks)
    assert {checks[name]["status"] for name in ("dvc", "mlflow", "packages", "data")} == {"fail"}
    for check in checks.values():
        assert (check["status"] == "ok") == (check["remedy"] == "")


def test_the_table_fits_the_terminal_and_cuts_no_command() -> None:
    """Lines of 149 columns on a terminal of 80, a command to type broken in two by the terminal."""
    checks = [
        Check(name="python", status="ok", detail="3.11.7"),
        Check(
            name="prefect", status="warn", detail="it does not answer; " * 6, remedy="prefect server start"
        ),
        Check(name="git", status="warn", detail="no commit yet", remedy="git commit"),
    ]
    lines = table(checks, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "ok    python   3.11.7"
    assert any(line.endswith("-> prefect server start") for line in lines)
    assert lines[-1] == "warn  git      no commit yet -> git commit"
    assert all(line.startswith(" " * 15) for line in lines[2:-1])
