"""report: one page for people, one JSON for machines."""

from pathlib import Path
from typing import Any

from gpt.report.artefacts import read_json
from gpt.report.config import ReportConfig
from gpt.report.page import render_page
from gpt.report.pipeline import read_stages
from gpt.report.results import gather
from stages import tracking
from stages.machine import prepare_machine
from stages.outputs import write_json
from stages.runner import StageRun, stage
from stages.tracking_journal import tags_of

DVC_YAML = Path("dvc.yaml")  # no flag: DVC takes no file of its own as a dependency, so none is declared
FOLDERS = (
    "fetch",
    "tokenize",
    "shard",
    "ladder",
    "pretrain",
    "scale_dense",
    "scale_moe",
    "logs",
    "finetune",
    *("align_dpo", "align_ppo", "align_grpo"),
    "quantize",
    "quantize_report",
    "evaluate",
    "package",
    "rag",
)


@stage(config=ReportConfig, inputs=(*FOLDERS, "base"))
def report(config: ReportConfig, run: StageRun) -> dict[str, Any]:
    """Gather what the stages left, draw the page from it, and close the pipeline's record."""
    device = prepare_machine(run.machine)
    labels = [entry.label for entry in read_stages(DVC_YAML)]
    folders = {label: run.inputs[flag] for label in labels if (flag := label.replace("-", "_")) in FOLDERS}
    tags = tags_of(Path.cwd())
    del tags["dvc_lock_sha256"]  # it holds this stage's own entry, which is written when it ends
    base_path = run.inputs["base"]
    results = gather(folders, DVC_YAML, config, tags=tags, base_path=base_path, device=str(device))
    write_json(run.out / "results.json", results)
    page = run.out / "report.html"
    page.write_text(render_page(read_json(run.out / "results.json")), encoding="utf-8")
    tracking.log_artifact(run.sink, page)
    tracking.finish_pipeline(labels, "FINISHED")
    counts = {name: len(results[name]) for name in ("models", "samples")}
    return counts | {
        "report_bytes": page.stat().st_size,
        "pipeline_time_s": results["total_time_s"],
    }


if __name__ == "__main__":
    raise SystemExit(report.main())
