"""The doctor's looks at the services around the core: MLflow, Prefect, git, DVC."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rawgpt.check import Check

ANSWER_LIMIT_S = 3
COMMAND_LIMIT_S = 30
PREFECT_DEFAULT = "http://127.0.0.1:4200/api"


def check_mlflow() -> Iterator[Check]:
    """Look for the tracking store: a server that answers or a folder that can be written."""
    installed = _installed("mlflow")  # `import mlflow` would find our folder of that name
    if installed is None:
        yield Check(name="mlflow", status="fail", detail="not installed", remedy="make setup")
        return
    if os.environ.get("RAWGPT_TRACKING", "").lower() == "off":
        yield Check(name="mlflow", status="ok", detail=f"{installed}, tracking is off (RAWGPT_TRACKING)")
        return
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("http"):
        if _answers(f"{uri.rstrip('/')}/health"):
            yield Check(name="mlflow", status="ok", detail=f"{installed}, {uri} answers")
        else:
            remedy = "start it, or `unset MLFLOW_TRACKING_URI`; runs are kept in mlflow/spill till then"
            yield Check(name="mlflow", status="warn", detail=f"{uri} does not answer", remedy=remedy)
        return
    if Path("mlflow").is_dir() and os.access("mlflow", os.W_OK):
        yield Check(name="mlflow", status="ok", detail=f"{installed}, {uri or 'mlflow/mlflow.db'}")
    else:
        detail = "no folder mlflow/ here that can be written"
        yield Check(name="mlflow", status="fail", detail=detail, remedy="cd to the repository's root")


def check_prefect() -> Iterator[Check]:
    """Ask Prefect's API for its health. Without it flows still run, each with a server of its own."""
    installed = _installed("prefect")
    if installed is None:
        yield Check(name="prefect", status="fail", detail="not installed", remedy="make setup")
        return
    uri = os.environ.get("PREFECT_API_URL", PREFECT_DEFAULT).rstrip("/")
    if _answers(f"{uri}/health"):
        yield Check(name="prefect", status="ok", detail=f"{installed}, {uri} answers")
    else:
        detail = f"{installed}, {uri} does not answer; only schedules and the web page need it"
        yield Check(name="prefect", status="warn", detail=detail, remedy="prefect server start")


def check_git() -> Iterator[Check]:
    """Name the commit and say whether the tree is clean."""
    head = _output("git", "rev-parse", "--short", "HEAD")
    changed = _output("git", "status", "--porcelain")
    if changed is None:
        remedy = "cd to the repository's root, or `git init`"
        yield Check(name="git", status="warn", detail="no git repository here", remedy=remedy)
    elif head is None:
        remedy = "git add . && git commit"
        yield Check(name="git", status="warn", detail="no commit yet", remedy=remedy)
    elif changed:
        detail = f"{head}, {len(changed.splitlines())} files changed: results will name a dirty tree"
        yield Check(name="git", status="warn", detail=detail, remedy="git commit")
    else:
        yield Check(name="git", status="ok", detail=f"{head}, clean")


def check_dvc() -> Iterator[Check]:
    """Look for the repository, the DAG and what was run of it."""
    installed = _installed("dvc")
    if installed is None:
        yield Check(name="dvc", status="fail", detail="not installed", remedy="make setup")
    elif not Path(".dvc").is_dir() or not Path("dvc.yaml").is_file():
        detail = f"{installed}, but .dvc/ or dvc.yaml is not here"
        yield Check(name="dvc", status="fail", detail=detail, remedy="cd to the repository's root")
    elif not Path("dvc.lock").is_file():
        detail = f"{installed}, nothing was run yet"
        yield Check(name="dvc", status="warn", detail=detail, remedy="dvc repro")
    else:
        yield Check(name="dvc", status="ok", detail=f"{installed}; `rawgpt plan` says what would run")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _answers(url: str) -> bool:
    """Say whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_LIMIT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _output(*command: str) -> str | None:
    """Return a command's output; None when it fails or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return None
    return done.stdout.strip() if done.returncode == 0 else None
