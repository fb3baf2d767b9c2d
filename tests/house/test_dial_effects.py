"""A changed dial re-runs exactly the stages that depend on it.

The project's own dvc.yaml runs here with commands that only copy a hash of what a stage depends on, so
that DVC's decision is what is tested, for every section, in seconds.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LANGUAGE_MODELS = {
    "pretrain",
    "scale@dense",
    "scale@moe",
    "finetune",
    "align@dpo",
    "align@ppo",
    "align@grpo",
    "quantize",
    "quantize_report",
    "evaluate",
    "package",
    "rag",
    "report",
}
ALIGNED = {"align@dpo", "align@ppo", "align@grpo"}
MATRICES = ("scale", "align")
ALL = {"fetch", "tokenize", "shard", "ladder", "logs"} | LANGUAGE_MODELS
CHANGES = {
    "fetch.seed": ALL,
    "tokenize.vocab_size": {"tokenize", "shard"} | LANGUAGE_MODELS,
    "shard.min_train_tokens": {"shard"} | LANGUAGE_MODELS,
    "ladder.train.optim.lr": {"ladder", "report"},
    "pretrain.train.optim.lr": LANGUAGE_MODELS,
    "scale.dense.train.steps": {"scale@dense", "evaluate", "report"},
    "scale.moe.growth.n_experts": {"scale@moe", "evaluate", "report"},
    "logs.n_chats": {"logs", "finetune", "quantize", "quantize_report", "evaluate", "package", "report"}
    | ALIGNED,
    "finetune.lora_rank": {"finetune", "quantize", "quantize_report", "evaluate", "package", "report"}
    | ALIGNED,
    "align.dpo.lora_rank": {"align@dpo", "evaluate", "report"},
    "align.ppo.rollout.epochs": {"align@ppo", "evaluate", "report"},
    "align.grpo.train.optim.lr": {"align@grpo", "evaluate", "report"},
    "quantize.group_size": {"quantize", "quantize_report", "evaluate", "package", "report"},
    "quantize_report.n_windows": {"quantize_report", "report"},
    "evaluate.n_windows": {"evaluate", "report"},
    "package.image_version": {"package", "report"},
    "rag.seed": {"rag", "report"},
    "report.seed": {"report"},
    "machine.threads": {"ladder"} | LANGUAGE_MODELS,
}
STAGE = """\
import hashlib, json, sys
from pathlib import Path
name, params, deps, outs = json.loads(sys.argv[1])
node = __import__("yaml").safe_load(Path("params.yaml").read_text())
digest = hashlib.sha256()
for section in params:
    value = node
    for key in section.split("."):
        value = value[key]
    digest.update(json.dumps(value).encode())
for dep in deps:
    path = Path(dep)
    for file in sorted([path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]):
        digest.update(file.read_bytes())
for out in outs:
    path = Path(out)
    file = path if path.suffix else path / "content"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name + digest.hexdigest())
"""


def paths(entries: list) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with the real wiring and stages that take no time."""
    folder = tmp_path_factory.mktemp("project")
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in dvc["stages"].items():
        outs = [
            *paths(stage.get("outs", [])),
            *paths(stage.get("metrics", [])),
            *paths(stage.get("plots", [])),
        ]
        data = [dep for dep in stage["deps"] if not dep.startswith(("gpt", "stages"))]
        stage["cmd"] = f"{sys.executable} stage.py '{json.dumps([name, stage['params'], data, outs])}'"
        stage["deps"] = data or ["stage.py"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(dvc))
    (folder / "stage.py").write_text(STAGE)
    shutil.copyfile(ROOT / "conf/laptop.yaml", folder / "params.yaml")
    (folder / "data/own_logs").mkdir(parents=True)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def rerun(project: Path) -> set[str]:
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        return {stage.addressing for stage in repo.reproduce()}


def test_every_section_is_in_the_table() -> None:
    """Guards: a new stage whose dials nobody thought through."""
    params = yaml.safe_load((ROOT / "conf/laptop.yaml").read_text())
    expected = set(params) - set(MATRICES) | {f"{name}.{v}" for name in MATRICES for v in params[name]}
    covered = {".".join(d.split(".")[:2]) if d.startswith(MATRICES) else d.split(".")[0] for d in CHANGES}
    assert covered == expected


def test_a_changed_dial_reruns_exactly_its_dependents(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a missing dependency (a stale model) and one too many (an hour of training for nothing)."""
    monkeypatch.chdir(project)
    assert rerun(project) == ALL
    assert rerun(project) == set()
    original = (project / "params.yaml").read_text()
    for text in (original + "# a comment\n", original.replace("1.0e-2", "0.01")):
        (project / "params.yaml").write_text(text)
        assert rerun(project) == set()
    for dial, expected in CHANGES.items():
        params = yaml.safe_load((project / "params.yaml").read_text())
        node = params
        *parents, leaf = dial.split(".")
        for key in parents:
            node = node[key]
        node[leaf] = f"{node[leaf]}x" if isinstance(node[leaf], str) else node[leaf] * 2 + 1
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        assert rerun(project) == expected, dial


def test_the_quantized_model_is_a_dial(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: quantize.source that is read and has no effect, or one that trains something again: another
    source runs quantize on it, and from then on that variant's dials reach the image."""
    monkeypatch.chdir(project)
    rerun(project)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["quantize"]["source"] = "align-dpo"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    after = {"quantize", "quantize_report", "evaluate", "package", "report"}
    assert rerun(project) == after
    params["align"]["dpo"]["lora_rank"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert rerun(project) == {"align@dpo"} | after
