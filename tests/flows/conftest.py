"""A tiny DVC project: `fetch -> work@a, work@b -> end`, whose stages do what `plan.json` says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STAGE = """\
import json, pathlib, sys, time
name = sys.argv[1]
plan = json.loads(pathlib.Path("plan.json").read_text()).get(name, {})
tries = pathlib.Path(f"tries-{name}")
count = int(tries.read_text()) + 1 if tries.exists() else 1
tries.write_text(str(count))
print("working", name, flush=True)
time.sleep(plan.get("sleep_s", 0))
codes = plan.get("codes", [0])
code = codes[min(count, len(codes)) - 1]
if code:
    sys.exit(code)
out = pathlib.Path("models") / name
out.mkdir(parents=True, exist_ok=True)
(out / "metrics.json").write_text(json.dumps({"loss": 1.25, "tries": count}))
"""

GRAPH = """\
stages:
  fetch:
    cmd: python stage.py fetch
    metrics: [{models/fetch/metrics.json: {cache: false}}]
  work:
    matrix:
      variant: [b, a]
    cmd: python stage.py work-${item.variant}
    deps: [models/fetch/metrics.json]
    metrics: [{"models/work-${item.variant}/metrics.json": {cache: false}}]
  end:
    cmd: python stage.py end
    deps: [models/work-a/metrics.json, models/work-b/metrics.json]
    metrics: [{models/end/metrics.json: {cache: false}}]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a fresh project, with this interpreter's `python` on PATH."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    command = [sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "plan.json").write_text("{}")
    return tmp_path


@pytest.fixture
def plan(project: Path) -> Callable[..., None]:
    """Return a function that sets what stages do: `plan(fetch={"codes": [75, 0]})`."""

    def set_plan(**stages: dict[str, object]) -> None:
        named = {name.replace("_", "-"): value for name, value in stages.items()}
        (project / "plan.json").write_text(json.dumps(named))

    return set_plan
