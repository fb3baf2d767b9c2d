"""gpt/report/pipeline.py on files written by hand."""

import json
from pathlib import Path

import pytest

from gpt.report.pipeline import lock_sha256, read_stages, recorded_dials, seeds_of

YAML = """\
stages:
  pretrain: {cmd: a, desc: Train}
  scale: {matrix: {variant: [dense, moe]}, cmd: b, desc: Grow}
"""


def test_a_matrix_is_as_many_stages_as_variants(tmp_path: Path) -> None:
    """Guards: `scale` in the table of times, which no folder and no run is called."""
    (tmp_path / "dvc.yaml").write_text(YAML)
    stages = read_stages(tmp_path / "dvc.yaml")
    assert [(s.label, s.key, s.section) for s in stages] == [
        ("pretrain", "pretrain", "pretrain"),
        ("scale-dense", "scale@dense", "scale.dense"),
        ("scale-moe", "scale@moe", "scale.moe"),
    ]
    assert [s.description for s in stages] == ["Train", "Grow", "Grow"]


def test_dials_are_those_that_ran(tmp_path: Path) -> None:
    """Guards: a seed read from params.yaml after someone changed it, or one of a stage that never ran."""
    (tmp_path / "dvc.yaml").write_text(YAML)
    ran = {"scale@moe": {"params": {"params.yaml": {"scale.moe": {"growth": {"seed": 2}}, "machine": {}}}}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": ran}))
    dials = recorded_dials(tmp_path / "dvc.lock", read_stages(tmp_path / "dvc.yaml"))
    assert dials == {"scale-moe": {"growth": {"seed": 2}}}
    assert seeds_of(dials["scale-moe"], "scale-moe") == {"scale-moe.growth.seed": 2}
    assert recorded_dials(tmp_path / "absent.lock", read_stages(tmp_path / "dvc.yaml")) == {}


def test_lock_hash_leaves_the_asking_stage_out(tmp_path: Path) -> None:
    """Guards: a report that differs when it is made again, since dvc.lock then holds the report itself."""
    lock = tmp_path / "dvc.lock"
    assert lock_sha256(lock, without="report") is None
    lock.write_text(json.dumps({"stages": {"fetch": {"cmd": "a"}}}))
    before = lock_sha256(lock, without="report")
    lock.write_text(json.dumps({"stages": {"fetch": {"cmd": "a"}, "report": {"cmd": "r"}}}))
    assert lock_sha256(lock, without="report") == before
    lock.write_text(json.dumps({"stages": {"fetch": {"cmd": "b"}}}))
    assert lock_sha256(lock, without="report") != before


@pytest.mark.parametrize("text", ["", "stages: 1", "{", "- a"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    """Guards: a traceback out of a parser."""
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"dvc.yaml: not a file of DVC's stages; run `git checkout"):
        read_stages(tmp_path / "dvc.yaml")
