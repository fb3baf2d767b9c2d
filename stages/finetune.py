"""finetune: LoRA on Hinglish fintech chats and payment logs."""

from gpt.checkpoint.adapter import save_adapter
from gpt.checkpoint.save_load import load_model, model_tensors, open_checkpoint, save_checkpoint
from gpt.config import fingerprint, to_dict
from gpt.finetune.config import FinetuneConfig
from gpt.finetune.lora_sft import finetune_lora
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.machine import prepare_machine
from stages.runner import StageRun, stage
from stages.training import write_curve


@stage(config=FinetuneConfig, inputs=("base", "logs"))
def finetune(config: FinetuneConfig, run: StageRun) -> dict[str, float | str]:
    """Adapt the base; save the adapter alone and the merged model whole."""
    device = prepare_machine(run.machine)
    base = open_checkpoint(run.inputs["base"])
    tokenizer = load_tokenizer(base.folder)
    result = finetune_lora(
        load_model(base).to(device),
        tokenizer,
        run.inputs["logs"],
        config,
        sink=run.sink,
        device=device,
        resume_dir=run.resume_dir,
    )
    lora = to_dict(config.lora)
    save_adapter(run.out / "adapter", result.adapter, base_sha256=base.sha256, lora=lora, stage=run.name)
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
    write_curve(run.out / "curve.csv", result.train)
    return {
        "base_logs_loss": round(result.base_loss, 4),
        "val_loss": round(result.train.val_loss, 4),
        "trainable_parameters": result.trainable,
        "parameters": result.total,
        "cut_records": result.counts["cut"],
        "train_s": round(result.train.elapsed_s, 1),
        "stopped_by": result.train.stopped_by,
    }


if __name__ == "__main__":
    raise SystemExit(finetune.main())
