"""The flow `pipeline`: DVC's stages, one at a time, as Prefect tasks with retries and a summary.

DVC decides what must run (an unchanged stage is skipped in seconds), this flow decides when and
with what retries, a backend where. DVC refuses two runs at once, so nothing here is concurrent.
"""

from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run as this_flow_run

from flows.backends import open_backend
from flows.dvc_command import StageFailed
from flows.dvc_graph import read_graph, run_order
from flows.summary import changes_table, read_metrics

RETRY_DELAYS_S: list[float] = [10, 30, 90]
REPORT = Path("reports/report.html")


def may_pass(task: Any, task_run: Any, state: Any) -> bool:
    """Say whether a failed stage may be tried again: its exit code was the one for that."""
    return isinstance(state.data, StageFailed) and state.data.is_passing


@task(
    name="stage",
    task_run_name="{stage}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
    cache_policy=NO_CACHE,
)
def run_stage(stage: str, *, force: bool, backend: str, accelerators: str, run_id: str) -> None:
    """Run one stage where the backend says. Raises StageFailed."""
    log = get_run_logger()
    where = open_backend(backend, root=Path.cwd(), run_id=run_id, accelerators=accelerators)
    where.run(stage, force=force, on_line=log.info)


def tear_down(flow: Any, flow_run: Any, state: Any) -> None:
    """End what a cancelled or crashed run left behind."""
    dials = flow_run.parameters
    open_backend(
        dials.get("backend", "local"),
        root=Path.cwd(),
        run_id=str(flow_run.id),
        accelerators=dials.get("accelerators", ""),
    ).tear_down()


@flow(name="pipeline", on_crashed=[tear_down], on_cancellation=[tear_down])
def pipeline(
    profile: str | None = None,
    targets: list[str] | None = None,
    force: bool = False,
    backend: str = "local",
    accelerators: str = "",
) -> list[str]:
    """Run the stages in order and return their names.

    `profile` names the profile that params.yaml must be (None: whatever it is); `targets` limits
    the run to these stages and what they need. Raises ValueError or StageFailed.
    """
    root = Path.cwd()
    if profile is not None:
        check_profile(root, profile)
    order = run_order(read_graph(root), targets)
    before = read_metrics(root)
    run_id = str(this_flow_run.id)
    try:
        for stage in order:
            run_stage.with_options(name=stage)(
                stage, force=force, backend=backend, accelerators=accelerators, run_id=run_id
            )
    finally:
        create_markdown_artifact(changes_table(before, read_metrics(root)), key="metrics")
    if (root / REPORT).exists():
        create_link_artifact((root / REPORT).as_uri(), link_text="report", key="report")
    return order


def check_profile(root: Path, profile: str) -> None:
    """Refuse to run a profile that params.yaml is not; a flow never rewrites it."""
    wanted_path, active_path = root / "conf" / f"{profile}.yaml", root / "params.yaml"
    if not wanted_path.exists():
        known = ", ".join(sorted(path.stem for path in wanted_path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"profile: got {profile!r}; the profiles in conf/ are {known}")
    wanted, active = yaml.safe_load(wanted_path.read_text()), yaml.safe_load(active_path.read_text())
    if wanted != active:
        differing = ", ".join(sorted(key for key in {*wanted, *active} if wanted.get(key) != active.get(key)))
        raise ValueError(
            f"profile: params.yaml is not '{profile}' (it differs in {differing}); "
            f"run `make profile NAME={profile}`, or start the flow with profile=null"
        )


if __name__ == "__main__":
    pipeline()
