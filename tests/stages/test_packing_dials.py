"""pretrain's dials packing and document_mask, through the whole stage."""

import json
from pathlib import Path

import pytest
import yaml

from tests.stages.conftest import CHAIN, run_chain, run_stage


def pretrained(capsys: pytest.CaptureFixture[str], packing: str, mask: bool) -> tuple[dict, str]:
    """Metrics of a run with the dials, and what it printed."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["pretrain"]["packing"] = packing
    params["pretrain"]["train"] |= {"document_mask": mask, "seq_len": 128}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 0
    return json.loads(Path("models/pretrain/metrics.json").read_text()), capsys.readouterr().out


def test_each_dial_makes_another_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a dial that is read and changes nothing; a share of padding that nobody is told."""
    for i in range(40):  # beside the six long documents short ones, so that rows have several
        words = " ".join(["the king and queen of france did send a letter to my lord", f"number {i}."] * 3)
        Path(f"text/short_{i}.txt").write_text(words, encoding="utf-8")
    run_chain("shard")
    losses = {}
    for packing in ("windows", "documents"):
        for mask in (False, True):
            metrics, out = pretrained(capsys, packing, mask)
            losses[packing, mask] = metrics["val_loss"]
            assert ("rows of 129 tokens" in out and "% padding" in out) == (packing == "documents")
    assert len(set(losses.values())) == 4, losses
    assert max(losses.values()) < 5.75  # ln 300, and six steps
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["pretrain"]["packing"] = "document"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    capsys.readouterr()
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 1
    assert "packing: got 'document'; choose one of windows, documents" in capsys.readouterr().err
