"""finetune: LoRA or QLoRA on Hinglish fintech chats and payment logs."""

import tempfile
from pathlib import Path
from typing import Any

from gpt.catalog.open_model import open_model
from gpt.checkpoint.adapter import save_adapter
from gpt.checkpoint.save_load import model_tensors, save_checkpoint
from gpt.config import fingerprint, to_dict
from gpt.finetune.config import FinetuneConfig
from gpt.finetune.lora_sft import finetune_lora
from gpt.finetune.source_loss import before_and_after, source_losses
from gpt.tokenizer.vocab_file import save_tokenizer
from stages.machine import prepare_machine
from stages.runner import StageRun, stage
from stages.training import write_curve


@stage(config=FinetuneConfig, inputs=("base", "logs"))
def finetune(config: FinetuneConfig, run: StageRun) -> dict[str, Any]:
    """Adapt the base; save the adapter alone, and in checkpoint/ the merged model or the adapter again."""
    device = prepare_machine(run.machine)
    base = open_model(str(run.inputs["base"]), device=str(device))
    logs, held_out = run.inputs["logs"], run.inputs["logs"] / "val.jsonl"
    before = source_losses(base.model, base.tokenizer, held_out, config, device)
    result = finetune_lora(
        base.model, base.tokenizer, logs, config, sink=run.sink, device=device, resume_dir=run.resume_dir
    )
    after = source_losses(result.model, base.tokenizer, held_out, config, device)
    for name in ("adapter",) if config.merge else ("adapter", "checkpoint"):
        save_adapter(
            run.out / name,
            result.adapter,
            base_sha256=base.sha256,
            lora=to_dict(config.lora),
            stage=run.name,
            base=config.base,
            base_precision=config.base_precision,
        )
    if config.merge:
        with tempfile.TemporaryDirectory() as folder:
            save_tokenizer(Path(folder), base.tokenizer)
            save_checkpoint(
                run.out / "checkpoint",
                model_tensors(result.model),
                result.model.config,
                stage=run.name,
                tokenizer_dir=Path(folder),
                tokenizer_fingerprint=base.tokenizer.fingerprint,
                config_fingerprint=fingerprint(config),
                parent_sha256=base.sha256,
            )
    write_curve(run.out / "curve.csv", result.train)
    return {**result.metrics(), "source_losses": before_and_after(before, after)}


if __name__ == "__main__":
    raise SystemExit(finetune.main())
