"""dvc.yaml, params.yaml and stages/ say the same thing."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt.config import load_section, read_params
from stages.runner import MachineConfig, Stage

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
FRAME = {
    "runner",
    "ranks",
    "tracking",
    "tracking_journal",
    "tracking_upload",
    "outputs",
    "training",
    "machine",
    "sequences",
    "__init__",
}
FRAME_FILES = {f"stages/{name}.py" for name in FRAME - {"training", "machine", "sequences"}}
"""The frame shapes no artefact: a change to tracking must not retrain a model (docs/decisions)."""
PROFILES = sorted((ROOT / "conf").glob("*.yaml"))


def declared(name: str) -> Stage:
    return getattr(importlib.import_module(f"stages.{name}"), name)


def resolve(text: str) -> str:
    """Put in the paths of `vars`, and the one dial that is a path: which model is quantized."""
    text = text.replace("${quantize.source}", read_params(ROOT / "params.yaml")["quantize"]["source"])
    for key, value in DVC["vars"][0]["path"].items():
        text = text.replace(f"${{path.{key}}}", value)
    params = read_params(ROOT / "params.yaml")  # two paths are dials: the user chooses them
    for section, dial in (("finetune", "base"), ("rag", "model")):
        text = text.replace(f"${{{section}.{dial}}}", params[section][dial])
    return text


def sections(name: str) -> list[str]:
    matrix = DVC["stages"][name].get("matrix")
    return [f"{name}.{v}" for v in matrix["variant"]] if matrix else [name]


def module_files(dotted: str) -> list[Path]:
    path = ROOT / dotted.replace(".", "/")
    return [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]


def closure(name: str) -> set[str]:
    """Every file of the house that a stage imports, through the files that they import."""
    seen: set[str] = set()
    todo = [ROOT / f"stages/{name}.py"]
    while todo:
        path = todo.pop()
        relative = str(path.relative_to(ROOT))
        if relative in seen or relative in FRAME_FILES:
            continue
        seen.add(relative)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"gpt", "stages"}:
                for dotted in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    todo += module_files(str(dotted))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] in {"gpt", "stages"}:
                        todo += module_files(alias.name)
    return {file for file in seen if not file.endswith("__init__.py")}


def test_stage_equals_file_equals_section() -> None:
    """Guards: a stage without a file, a file without a stage, a section that nobody reads."""
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - FRAME
    assert set(DVC["stages"]) == files
    assert set(read_params(ROOT / "params.yaml")) == files | {"machine"}


@pytest.mark.parametrize("name", DVC["stages"])
def test_deps_cover_imports(name: str) -> None:
    """Guards: a changed file that DVC does not see, so that `dvc repro` keeps a stale model."""
    deps = [resolve(dep) for dep in DVC["stages"][name]["deps"]]
    code = [dep for dep in deps if dep.startswith(("gpt", "stages"))]
    uncovered = {f for f in closure(name) if not any(f == dep or f.startswith(f"{dep}/") for dep in code)}
    assert not uncovered, f"add to {name}'s deps"
    idle = {dep for dep in code if not any(f == dep or f.startswith(f"{dep}/") for f in closure(name))}
    assert not idle, f"remove from {name}'s deps"


@pytest.mark.parametrize("name", DVC["stages"])
def test_flags_match_the_declaration(name: str) -> None:
    """Guards: a flag that the stage does not know, an input that is no dependency."""
    entry, stage = DVC["stages"][name], declared(name)
    words = resolve(entry["cmd"]).split()
    flags = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["python", "-m", f"stages.{name}"]
    given = {flag.removeprefix("--") for flag in flags} - {"out", "variant"}
    assert given == set(stage.inputs) | (given & set(stage.optional_inputs))
    deps = {resolve(dep) for dep in entry["deps"]}
    for flag, value in flags.items():
        if flag not in ("--out", "--variant"):
            assert any(value == dep or dep.startswith(f"{value}/") for dep in deps), (flag, value)


@pytest.mark.parametrize("name", DVC["stages"])
def test_params_of_a_stage_are_its_own_section(name: str) -> None:
    """Guards: a stage that reads a dial which does not re-run it."""
    entry = DVC["stages"][name]
    expected = f"{name}.${{item.variant}}" if "matrix" in entry else name
    assert entry["params"] in ([expected], [expected, "machine"])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", DVC["stages"])
def test_every_profile_loads_strictly(profile: Path, name: str) -> None:
    """Guards: a profile that rots because nobody runs it on a laptop."""
    for section in sections(name):
        load_section(profile, section, declared(name).config)
    load_section(profile, "machine", MachineConfig)


def test_the_committed_params_are_the_laptop_profile() -> None:
    """Guards: an experiment's dial committed by accident."""
    assert (ROOT / "params.yaml").read_text() == (ROOT / "conf/laptop.yaml").read_text()


def test_stages_are_thin() -> None:
    """Guards: logic that belongs to gpt/ and is tested nowhere."""
    for name in DVC["stages"]:
        assert len((ROOT / f"stages/{name}.py").read_text().splitlines()) <= 60, name


def dotted(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return set().union(*(dotted(v, f"{prefix}.{k}" if prefix else k) for k, v in node.items()))


def test_profiles_set_the_same_dials() -> None:
    """Guards: a dial that one profile leaves to a default and another sets."""
    laptop = dotted(read_params(ROOT / "conf/laptop.yaml"))
    for profile in PROFILES:
        assert dotted(read_params(profile)) == laptop, profile.name
