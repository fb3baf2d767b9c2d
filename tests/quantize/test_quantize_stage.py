"""The stage quantize, end to end on tiny inputs."""

import json
from pathlib import Path

from gpt.checkpoint.manifest import file_sha256
from stages.quantize import quantize
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_run


def test_stage_repeats_and_reports(tmp_path: Path) -> None:
    """Same inputs, same bytes: guards unseeded calibration; the increases are relative to the parent."""
    parent = save_tiny(tmp_path / "parent", tiny_model())
    metrics, hashes = [], []
    for attempt in ("first", "second"):
        run = tiny_run(tmp_path / attempt, {"checkpoint": parent})
        metrics.append(quantize.run(QUANTIZE_CONFIG, run))
        hashes.append(file_sha256(run.out / "checkpoint" / "manifest.json"))
        assert len(json.loads((run.out / "layers.json").read_text())) == 14
    assert hashes[0] == hashes[1]
    assert metrics[0] == metrics[1]
    m = metrics[0]
    assert m["linear_ratio"] == 6.4
    assert m["bytes_after"] < m["bytes_before"]
    assert m["test_tokens"] == QUANTIZE_CONFIG.n_test * (QUANTIZE_CONFIG.seq_len - 1)
    assert abs(m["perplexity_after"] / m["perplexity_before"] - 1 - m["perplexity_increase"]) < 1e-3
    assert m["perplexity_increase"] != m["perplexity_increase_nearest"]
