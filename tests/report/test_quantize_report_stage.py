"""The stage quantize_report, end to end on tiny inputs."""

import json
from pathlib import Path

import pytest

from gpt.checkpoint.save_load import open_checkpoint
from gpt.quantize.config import Method
from gpt.report.config import QuantizeReportConfig
from stages.quantize import quantize
from stages.quantize_report import quantize_report
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_run

METHODS: tuple[Method, ...] = ("gptq", "awq", "nearest", "int8", "int8_dynamic", "nf4")
CONFIG = QuantizeReportConfig(
    methods=METHODS,
    n_windows=6,
    seq_len=24,
    n_hellaswag=0,
    batch_tokens=512,
    prompt_tokens=4,
    decode_tokens=2,
    rounds=2,
)


@pytest.mark.parametrize("norm_gain", [True, False])
def test_stage_measures_every_method_and_repeats(
    tmp_path: Path, norm_gain: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """methods.json twice the same bytes; the shipped method's row is the shipped file's size.

    Guards a time in a file that DVC hashes, dials that differ from the shipped model's, and a method that an
    architecture refuses and that is left out in silence; and a time of another form than users run.
    """
    parent = save_tiny(tmp_path / "parent", tiny_model(norm_gain=norm_gain))
    shipped = tiny_run(tmp_path / "shipped", {"checkpoint": parent})
    quantize.run(QUANTIZE_CONFIG, shipped)
    written = []
    for attempt in ("first", "second"):
        inputs = {"parent": parent, "checkpoint": shipped.out / "checkpoint"}
        run = tiny_run(tmp_path / attempt, inputs)
        metrics = quantize_report.run(CONFIG, run)
        written.append((run.out / "methods.json").read_bytes())
    assert written[0] == written[1]
    printed = capsys.readouterr().out
    assert all(f"quantize_report: {m} decodes int4 on the CPU by " in printed for m in ("gptq", "nearest"))
    rows = {row["method"]: row for row in json.loads(written[0])}
    assert set(rows) == {"float", *METHODS}
    size = (shipped.out / "checkpoint" / "model.safetensors").stat().st_size
    assert abs(rows["gptq"]["file_bytes"] - size) <= 64  # the names of the stages differ in length
    assert open_checkpoint(shipped.out / "checkpoint").info["quantization"]["dials"]["group_size"] == 16
    present = [row for row in rows.values() if "absent" not in row]
    assert set(metrics) == {f"{k}_{row['method']}" for row in present for k in ("rise", "ms_per_token")}
    if not norm_gain:
        assert rows["awq"]["absent"].startswith("architecture.norm_gain: false")
    for row in present[1:]:
        assert row["memory_bytes"] < rows["float"]["memory_bytes"]
        assert row["perplexity"] / rows["float"]["perplexity"] - 1 == pytest.approx(row["rise"], abs=1e-6)
