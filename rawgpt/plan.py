"""`rawgpt plan`: what `dvc repro` would run, why, and how long it took last time.

DVC decides; this reads `dvc status` and `dvc dag`. `dvc repro --dry` is not asked: it leaves out the
stages behind a changed one, stops at the first input that is not made yet, and calls every changed
stage cached.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from flows.dvc_graph import parse_dot, run_order
from rawgpt.dvc_lock import read_lock
from rawgpt.exit_codes import EXIT_GOOD, PassingFailure

DVC_LIMIT_S = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One stage that would run."""

    stage: str
    why: str
    is_certain: bool
    """False for a stage that runs only if a result in front of it differs."""
    last_time_s: float | None


def plan(as_json: Annotated[bool, Option("--json", help="Print a JSON list of stages.")] = False) -> int:
    """Say what `dvc repro` would run, and why.

    A line is `run`, or `may` where it depends on a result in front. The seconds are those of the stage's
    last run here, from its metrics.json. What DVC finds in its run cache is restored, not run.
    """
    if not Path("dvc.yaml").is_file():
        raise ValueError("dvc.yaml: no such file; run from the repository's root")
    status = json.loads(_dvc("status", "--json"))
    graph = parse_dot(_dvc("dag", "--dot")) if status else {}
    stages = planned(status, graph, read_lock(Path("dvc.lock")), Path())
    if as_json:
        print(json.dumps([asdict(stage) for stage in stages], indent=2))
        return EXIT_GOOD
    if not stages:
        print("nothing: every stage is up to date")
        return EXIT_GOOD
    width = max(len(stage.stage) for stage in stages)
    for stage in stages:
        word = "run" if stage.is_certain else "may"
        print(f"{word}  {stage.stage:{width}}  {_seconds(stage.last_time_s):>7}  {stage.why}")
    known = [stage.last_time_s for stage in stages if stage.last_time_s is not None]
    rest = f", {len(stages) - len(known)} of unknown time" if len(known) < len(stages) else ""
    print(f"{len(stages)} stages, {_seconds(sum(known))} by their last runs{rest}")
    return EXIT_GOOD


def planned(
    status: Mapping[str, list[Any]],
    graph: Mapping[str, set[str]],
    lock: Mapping[str, dict[str, Any]],
    root: Path,
) -> list[Planned]:
    """Return the changed stages and all behind them, in the order in which they can run.

    `status` is what `dvc status --json` prints; `graph` maps a stage to the stages it needs; `lock` holds
    the stages of dvc.lock, whose paths lie below `root`.
    """
    stages: list[Planned] = []
    affected: set[str] = set()
    for stage in run_order(graph):
        before = sorted(graph[stage] & affected)
        if stage not in status and not before:
            continue
        affected.add(stage)
        if stage not in lock:
            why = "never run here"
        elif stage in status:
            why = _why(status[stage])
        else:
            why = f"if {' or '.join(before)} gives something new"
        stages.append(
            Planned(
                stage=stage,
                why=why,
                is_certain=stage in status,
                last_time_s=_last_time_s(lock.get(stage, {}), root),
            )
        )
    return stages


def _why(reasons: list[Any]) -> str:
    """Group DVC's reasons by what happened: `modified: gpt/model, params.yaml:pretrain; deleted: x`."""
    words: list[str] = []
    by_change: dict[str, list[str]] = {}
    for reason in reasons:
        if isinstance(reason, str):  # "changed command"
            words.append(reason)
            continue
        for changes in reason.values():
            for path, change in changes.items():
                keys = {path: change} if isinstance(change, str) else change
                for key, how in keys.items():
                    name = path if key == path else f"{path}:{key}"
                    by_change.setdefault(how, []).append(name)
    return "; ".join([*words, *(f"{how}: {', '.join(names)}" for how, names in by_change.items())])


def _last_time_s(stage: Mapping[str, Any], root: Path) -> float | None:
    """Return `time_s` of the metrics.json that dvc.lock lists among a stage's outputs."""
    for out in stage.get("outs", ()):
        path = root / out["path"]
        if path.name == "metrics.json" and path.is_file():
            time_s = json.loads(path.read_text(encoding="utf-8")).get("time_s")
            return None if time_s is None else float(time_s)
    return None


def _dvc(*args: str) -> str:
    """Run dvc; return its output. Raises ValueError with DVC's words, PassingFailure for a lock."""
    command = [sys.executable, "-m", "dvc", *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DVC_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise PassingFailure(f"dvc {args[0]}: no answer in {DVC_LIMIT_S} s") from None
    if done.returncode == 0:
        return done.stdout
    message = " ".join(done.stderr.split()).rpartition("ERROR: ")[2] or f"exit code {done.returncode}"
    if "is busy" in message or "acquire lock" in message:
        holder = re.search(r"PID \d+", message)
        who = f"another dvc ({holder.group()})" if holder else "another dvc"
        raise PassingFailure(f"{who} is running; wait for it and run `rawgpt plan` again")
    raise ValueError(f"dvc {args[0]}: {message}")


def _seconds(time_s: float | None) -> str:
    if time_s is None:
        return "?"
    return f"{time_s:.0f} s" if time_s < 120 else f"{time_s / 60:.0f} min"
