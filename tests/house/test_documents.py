"""What a reader types works: README's commands, the profiles' arithmetic."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.config import load_section
from gpt.model.flops import count_parameters, training_flops_per_token
from stages.pretrain import PretrainConfig
from stages.scale import ScaleConfig

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
COMMANDS = [
    line.strip()
    for name in ("README.md", "CONTRIBUTING.md")
    for block in BLOCK.findall((ROOT / name).read_text())
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
BIN = Path(sys.executable).parent
HELP = {"dvc": "--help", "prefect": "--help", "rawgpt": "--help"}
CHEAP = ["make profile NAME=laptop", "dvc dag", "rawgpt plan --help", "rawgpt sample --help"]
GPU_PROFILES = ["gpu-124m", "gpu-350m", "moe", "cluster"]


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_readme_commands_parse(command: str) -> None:
    """Guards: a renamed target, subcommand or flag that the README still prints."""
    words = shlex.split(command)
    if words[0] in ("export", "source"):
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
        return
    if words[0] == "curl":
        assert "/v1/completions" in command
        return
    assert words[0] in HELP, f"no rule for {command!r}: add one"
    depth = {"prefect": 3, "dvc": 3, "rawgpt": 2}[words[0]]
    for length in range(depth, 0, -1):  # `dvc exp run --help`, else `dvc repro --help`
        plain = [w for w in words[1:length] if re.fullmatch(r"[a-z][a-z-]*", w)]
        found = subprocess.run(
            [BIN / words[0], *plain, "--help"], capture_output=True, text=True, timeout=120, cwd=ROOT
        )
        if found.returncode == 0:
            break
    assert found.returncode == 0, found.stderr
    for word in words[1:]:
        if word.startswith("-") and not word.lstrip("-").isdigit():
            assert word.split("=")[0] in found.stdout, f"{command}: no flag {word}"


@pytest.mark.parametrize("command", CHEAP)
def test_cheap_commands_run(command: str, tmp_path: Path) -> None:
    """Guards: commands that parse and fail. In a copy, so that nothing of the user's is touched."""
    for name in ("Makefile", "dvc.yaml", "params.yaml", "requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("conf", ".ci", ".dvc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    words = shlex.split(command)
    if words[0] != "make":
        words[0] = str(BIN / words[0])
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_unknown_profile_names_the_known_ones() -> None:
    """Guards: `cp: no such file` where a person mistyped a profile."""
    done = subprocess.run(["make", "profile", "NAME=lapto"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "choose NAME= one of" in done.stdout
    assert "laptop" in done.stdout


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_the_arithmetic_in_a_profile_is_its_dials(name: str) -> None:
    """Guards: a comment that promises another run than the dials make."""
    path = ROOT / f"conf/{name}.yaml"
    head = path.read_text().split("machine:")[0]
    pretrain = load_section(path, "pretrain", PretrainConfig)
    runs = {"pretrain": (pretrain.model, pretrain.train)}
    for variant in ("dense", "moe"):
        scale = load_section(path, f"scale.{variant}", ScaleConfig)
        size = {f.name: getattr(scale.growth, f.name) for f in dataclasses.fields(scale.growth)}
        size = {k: v for k, v in size.items() if k not in ("seed", "router_std")}
        runs[f"scale.{variant}"] = (dataclasses.replace(pretrain.model, **size), scale.train)
    total = 0.0
    for label, (model, train) in runs.items():
        count = count_parameters(model)
        tokens = train.steps * train.batch_tokens
        flops = tokens * training_flops_per_token(model, train.seq_len)
        total += flops
        expected = (
            f"{label}: {count.total / 1e6:.2f}M parameters ({count.active / 1e6:.2f}M active), "
            f"{train.steps:,} steps x {train.batch_tokens:,} = {tokens:.3g} tokens, {flops:.3g} FLOPs"
        )
        assert expected in head
    hours = total / (0.4 * 989e12) / 3600
    assert f"{total:.3g} training FLOPs" in head
    assert f"{hours:.3g} h" in head
    assert f"${hours * 3:.3g}" in head


def test_every_benchmark_answers_help() -> None:
    """Guards: `--help` that starts ten minutes of training. Read, not run: each import costs seconds."""
    for path in (ROOT / "benchmarks").glob("*.py"):
        source = path.read_text()
        if 'if __name__ == "__main__"' in source:
            assert "argparse.ArgumentParser(" in source, f"{path.name}: main() without argparse"
