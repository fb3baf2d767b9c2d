"""align: DPO, PPO or GRPO on the fine-tuned model, by variant."""

import csv
from typing import Any

from gpt.align.config import AlignConfig
from gpt.align.run import Alignment
from gpt.checkpoint.save_load import load_model, model_tensors, open_checkpoint, save_checkpoint
from gpt.config import fingerprint
from gpt.finetune.sft import read_records
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.machine import prepare_machine
from stages.runner import StageRun, stage


@stage(config=AlignConfig, inputs=("base", "logs", "files"))
def align(config: AlignConfig, run: StageRun) -> dict[str, Any]:
    """Align the fine-tuned model; save it whole, with the curve of what it was rewarded for."""
    if run.variant is None or getattr(config, run.variant, None) is None:
        raise ValueError(f"{run.variant or 'dpo'}: the variant's own dials are missing; see conf/laptop.yaml")
    device = prepare_machine(run.machine)
    base = open_checkpoint(run.inputs["base"])
    tokenizer = load_tokenizer(base.folder)
    result = Alignment(
        config=config,
        tokenizer=tokenizer,
        records={split: read_records(run.inputs["logs"] / f"{split}.jsonl") for split in ("train", "val")},
        extra=run.inputs["files"] / "extra",
        sink=run.sink,
        device=device,
        resume_dir=run.resume_dir,
        name=run.name,
    ).run(load_model(base).to(device))
    save_checkpoint(
        run.out / "checkpoint",
        model_tensors(result.model),
        result.model.config,
        stage=run.name,
        tokenizer_dir=base.folder,
        tokenizer_fingerprint=tokenizer.fingerprint,
        config_fingerprint=fingerprint(config),
        parent_sha256=base.sha256,
    )
    with (run.out / "curve.csv").open("w", newline="", encoding="utf-8") as file:
        columns = list(dict.fromkeys(key for row in result.train.history for key in row))
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.train.history)
    return {
        **result.metrics,
        "val_loss": round(result.train.val_loss, 4),
        "train_s": round(result.train.elapsed_s, 1),
        "stopped_by": result.train.stopped_by,
        "train_steps": result.train.steps,
        "train_tokens": result.train.tokens,
    }


if __name__ == "__main__":
    raise SystemExit(align.main())
