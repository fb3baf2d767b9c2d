"""Every server of the stack starts and answers: a clean resolver proves nothing (STACK.md).

Each runs in a temporary home on a free loopback port and is ended by its process group.
The API server of rawgpt has its own test in tests/serve.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.dvc_command import end_group, is_running

REPO = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_LIMIT_S = 240.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a home of its own, on a free port, without telemetry."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "DVC"))}
    return clean | {
        "PORT": str(port),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run a server for the length of the block, yield its log, leave nothing behind."""
    log = folder / f"{command[0]}-{command[1]}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield log
        finally:
            end_group(process.pid)
            process.wait()
    assert not is_running(process.pid)


def answer(url: str, log: Path) -> str:
    """Return what a server says, waiting for it to start."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < deadline, f"{url}: no answer\n{log.read_text()[-3000:]}"
            time.sleep(0.25)


def test_prefect_server_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    """Guards against a fastapi or sqlalchemy with which the server dies at its start."""
    port = environment["PORT"]
    with running(["prefect", "server", "start", "--port", port], tmp_path, environment) as log:
        assert answer(f"{environment['PREFECT_API_URL']}/health", log) == "true"
        assert answer(f"{environment['PREFECT_API_URL']}/ready", log).find("OK") > 0


def test_mlflow_ui_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    """Guards against an MLflow whose server does not start beside our pins."""
    port, store = environment["PORT"], f"sqlite:///{tmp_path}/mlflow.db"
    command = ["mlflow", "ui", "--backend-store-uri", store, "--port", port, "--workers", "1"]
    with running(command, tmp_path, environment) as log:
        assert answer(f"http://127.0.0.1:{port}/health", log) == "OK"
        assert answer(f"http://127.0.0.1:{port}/version", log)
        assert "<div id=" in answer(f"http://127.0.0.1:{port}/", log)


@pytest.mark.slow
def test_the_whole_deployment_as_the_readme_types_it(tmp_path: Path, environment: dict[str, str]) -> None:
    """Guards against a flow that runs from Python and not from `prefect deployment run`."""
    home = tmp_path / "repository"
    shutil.copytree(REPO / "flows", home / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "prefect.yaml", home)
    (home / "conf").mkdir()
    for params in ("params.yaml", "conf/laptop.yaml"):
        (home / params).write_text("fetch: {n: 1}\n")
    make = "import pathlib; p = pathlib.Path('models/fetch/metrics.json'); "
    make += "p.parent.mkdir(parents=True); p.write_text('{}')"
    (home / "dvc.yaml").write_text(
        f'stages:\n  fetch:\n    cmd: python -c "{make}"\n'
        "    metrics: [{models/fetch/metrics.json: {cache: false}}]\n"
    )
    environment = environment | {"PWD": str(home)}

    def typed(*command: str) -> str:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    typed("dvc", "init", "--no-scm", "--quiet")
    server = ["prefect", "server", "start", "--port", environment["PORT"]]
    with running(server, home, environment) as log:
        answer(f"{environment['PREFECT_API_URL']}/health", log)
        typed("prefect", "work-pool", "create", "local", "--type", "process")
        assert "pipeline/laptop" in typed("prefect", "deploy", "--all")
        typed("prefect", "automation", "create", "--from-file", "flows/zombies.yaml")
        with running(["prefect", "worker", "start", "--pool", "local"], home, environment):
            told = typed("prefect", "deployment", "run", "pipeline/laptop", "--watch")
    assert "finished successfully" in told
    assert (home / "models/fetch/metrics.json").exists()
    assert "fetch" in (home / "dvc.lock").read_text()
