"""quantize_report: every method of quantization on the model that is quantized, side by side.

A stage of its own, not part of quantize or evaluate: what is shipped does not wait for it, and its dials make
no model again. The methods run under the dials that the shipped checkpoint keeps. methods.json repeats;
times vary and stand in metrics.json alone, as everywhere.
"""

import tempfile
from pathlib import Path

from gpt.checkpoint.save_load import open_checkpoint
from gpt.config import from_mapping
from gpt.dataset.shard_set import open_shards
from gpt.quantize.config import QuantizeConfig
from gpt.report.config import QuantizeReportConfig
from gpt.report.method_comparison import make_models, method_rows, ready_to_run
from gpt.report.method_scores import decode_times, prepare
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.machine import prepare_machine
from stages.outputs import write_json
from stages.runner import StageRun, stage
from stages.sequences import draw_mix


@stage(config=QuantizeReportConfig, inputs=("parent", "checkpoint", "logs", "shards", "files"))
def quantize_report(config: QuantizeReportConfig, run: StageRun) -> dict[str, float]:
    """Make, save, open and measure the model by each method; methods.json has a row for each."""
    device = prepare_machine(run.machine)
    parent, shipped = open_checkpoint(run.inputs["parent"]), open_checkpoint(run.inputs["checkpoint"])
    where = f"{shipped.folder}/config.json: quantization.dials"
    dials = from_mapping(QuantizeConfig, shipped.info["quantization"].get("dials"), where)
    calibration = draw_mix(dials, run, "train", dials.n_calibration).to(device)
    tokenizer = load_tokenizer(parent.folder)
    val = open_shards(run.inputs["shards"], "val", tokenizer.fingerprint)
    material = prepare(config, tokenizer, val, run.inputs["files"])
    with tempfile.TemporaryDirectory() as folder:
        made = make_models(parent, config.methods, dials, calibration, Path(folder), device)
        rows = method_rows(*made, material)
    write_json(run.out / "methods.json", rows)
    for method, how in ready_to_run(made[0]).items():
        print(f"quantize_report: {method} decodes {how}")
    prompt = calibration[0, : config.prompt_tokens].tolist()
    times = decode_times(made[0], prompt, config.decode_tokens, config.rounds)
    rises = {f"rise_{row['method']}": round(row["rise"], 5) for row in rows if "rise" in row}
    return rises | {f"ms_per_token_{method}": ms for method, ms in times.items()}


if __name__ == "__main__":
    raise SystemExit(quantize_report.main())
