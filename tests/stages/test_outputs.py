"""stages/outputs.py and the runner's last look at code and params."""

from pathlib import Path

import pytest
import yaml

from stages.outputs import code_hash, install_outputs, tree_hash
from tests.stages.conftest import CHAIN, run_chain, run_stage


def test_install_replaces_and_keeps_neighbours(tmp_path: Path) -> None:
    """Guards: a stale file that survives inside a replaced folder, a neighbour that is lost."""
    for folder, names in {"new/checkpoint": ["a"], "out/checkpoint": ["old"], "out/keep": ["b"]}.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).write_text(name)
    install_outputs(tmp_path / "new", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/checkpoint").iterdir()) == ["a"]
    assert (tmp_path / "out/keep/b").exists()


def test_hashes_see_content_and_names(tmp_path: Path) -> None:
    """Guards: a renamed or edited file that resumes another run's state."""
    (tmp_path / "a").write_text("1")
    first = tree_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = tree_hash(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, tree_hash(tmp_path)}) == 3
    assert code_hash({"m": tmp_path / "b"}) != code_hash({"n": tmp_path / "b"})


def test_params_edited_while_it_ran_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: DVC hashes the params after the command, so an edit made meanwhile reads as trained."""
    run_chain("tokenize")
    import stages.shard as module

    original = module.assemble

    def edits(*args: object) -> None:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["shard"]["min_train_tokens"] = 1
        Path("params.yaml").write_text(yaml.safe_dump(params))
        original(*args)

    monkeypatch.setattr(module, "assemble", edits)
    assert run_stage("shard", *CHAIN["shard"]) == 1
    assert "code or params changed while it ran" in capsys.readouterr().err
    assert not Path("data/shard").exists()
