"""flows/pipeline.py on a tiny DVC project, with Prefect's own test server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from prefect.artifacts import Artifact
from prefect.states import Failed
from prefect.testing.utilities import prefect_test_harness

from flows import pipeline as module
from flows.dvc_command import StageFailed

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Path:
    """Stand in the project, with retries that do not wait."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(module, "run_stage", module.run_stage.with_options(retry_delay_seconds=0))
    return project


def _tries(root: Path) -> dict[str, int]:
    return {p.name.removeprefix("tries-"): int(p.read_text()) for p in root.glob("tries-*")}


def test_runs_in_order_retries_75_only_and_tells_the_metrics(here: Path, plan: Callable[..., None]) -> None:
    """Guards against retrying a real fault, stopping at a passing one, or losing the summary."""
    plan(fetch={"codes": [75, 75, 0]}, end={"codes": [2]})
    with pytest.raises(StageFailed, match="end: exit code 2"):
        module.pipeline()
    assert _tries(here) == {"fetch": 3, "work-a": 1, "work-b": 1, "end": 1}
    artifact = Artifact.get("metrics")
    assert artifact is not None
    assert "| models/work-a | loss | - | 1.25 |" in str(artifact.data)
    assert "models/end" not in str(artifact.data)


def test_only_75_is_tried_again_and_three_times_at_most() -> None:
    """Guards against an endless retry, and against one of the user's mistakes or our faults."""
    assert module.run_stage.retries == len(module.run_stage.retry_delay_seconds) == 3
    for code, expected in ((1, False), (2, False), (75, True), (255, False), (-9, False)):
        state = Failed(data=StageFailed("fetch", code))
        assert module.may_pass(None, None, state) is expected
    assert not module.may_pass(None, None, Failed(data=ValueError("75")))


def test_a_profile_that_is_not_active_is_refused(tmp_path: Path) -> None:
    """Guards against a run of the wrong size, and against a flow that rewrites params.yaml."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/laptop.yaml").write_text("a: {x: 1}\nb: 2\n")
    active = tmp_path / "params.yaml"
    active.write_text("b: 2\na:\n  x: 1\n")
    module.check_profile(tmp_path, "laptop")
    active.write_text("b: 2\na: {x: 3}\n")
    with pytest.raises(ValueError, match=r"differs in a\); run `make profile NAME=laptop`"):
        module.check_profile(tmp_path, "laptop")
    with pytest.raises(ValueError, match="got 'lapptop'; the profiles in conf/ are laptop"):
        module.check_profile(tmp_path, "lapptop")
    assert active.read_text() == "b: 2\na: {x: 3}\n"


def test_deployments_point_at_this_flow_and_name_no_machine_path() -> None:
    """Guards against an entrypoint or a parameter that `prefect deploy --all` cannot find."""
    spec = yaml.safe_load((REPO / "prefect.yaml").read_text())
    (step,) = spec["pull"]
    assert step["prefect.deployments.steps.set_working_directory"] == {"directory": "{{ $PWD }}"}
    for deployment in spec["deployments"]:
        file, name = deployment["entrypoint"].split(":")
        assert (REPO / file).exists()
        assert getattr(module, name).name == "pipeline"
        assert set(deployment["parameters"]) <= set(module.pipeline.parameters.properties)
