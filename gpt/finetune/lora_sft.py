"""Supervised fine-tuning with LoRA or QLoRA: base and logs in, adapter and tuned model out."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt.adapters.frozen import pack_base
from gpt.adapters.lora import inject_lora, lora_tensors, merge_lora
from gpt.finetune.config import FinetuneConfig
from gpt.finetune.counted import counted_validation, finetuning_objective
from gpt.finetune.sft import sft_batches
from gpt.model.flops import training_flops_per_token
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.loop import TrainResult, train
from gpt.train.metrics import MetricSink
from gpt.train.objective import mask_token
from gpt.train.precision import DTYPES


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """A fine-tuned model and what it took."""

    model: Transformer
    """With the adapters folded into its weights, or on top of them, as config.merge says."""
    adapter: dict[str, Tensor]
    train: TrainResult
    base_loss: float
    """Nats per learned token of the held-out logs before, the base in fp32."""
    packed_loss: float
    """The same of the base as it lay in memory, where the adapters began; base_loss when that is fp32."""
    trainable: int
    """Parameters updated."""
    total: int
    """Parameters of the base."""
    counts: dict[str, int]
    """Of the training logs, as sft_batches returns them."""

    def metrics(self) -> dict[str, float | str]:
        """Return the stage's metrics."""
        return {
            "base_logs_loss": round(self.base_loss, 4),
            "packed_base_logs_loss": round(self.packed_loss, 4),
            "val_loss": round(self.train.val_loss, 4),
            "trainable_parameters": self.trainable,
            "parameters": self.total,
            "cut_records": self.counts["cut"],
            "dropped_records": self.counts["dropped"],
            "train_s": round(self.train.elapsed_s, 1),
            "stopped_by": self.train.stopped_by,
        }


def finetune_lora(
    model: Transformer,
    tokenizer: Tokenizer,
    logs: Path,
    config: FinetuneConfig,
    *,
    sink: MetricSink,
    device: torch.device,
    resume_dir: Path,
) -> FinetuneResult:
    """Adapt `model` in place to logs/train.jsonl, validated on logs/val.jsonl."""
    seq_len, size, seed = config.train.seq_len, config.train.micro_batch_size, config.train.seed
    batches, counts = sft_batches(
        logs / "train.jsonl", tokenizer, config.data, seq_len=seq_len, seed=seed, replay=logs / "replay.jsonl"
    )
    val, _ = sft_batches(logs / "val.jsonl", tokenizer, config.data, seq_len=seq_len, seed=0)
    end = tokenizer.end_of_text
    dtype, closing = DTYPES[config.train.dtype], mask_token(config.train, end)
    way = config.train.head_loss
    validate = counted_validation(val, config.train.eval_batches, size, device, dtype, closing, way)
    base_loss = validate(model)
    total = sum(p.numel() for p in model.parameters())
    pack_base(model, config.base_precision)
    packed_loss = base_loss if config.base_precision == "fp32" else validate(model)
    inject_lora(model, config.lora, seed)
    model.to(device)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(
        f"finetune: {trainable:,} of {total:,} parameters are updated ({trainable / total:.2%})", flush=True
    )
    sink.log(0, {"trainable_parameters": trainable, "parameters": total})
    result = train(
        model,
        batches,
        finetuning_objective(config.train, end),
        config.train,
        name="finetune",
        validate=validate,
        sink=sink,
        device=device,
        resume_dir=resume_dir,
        flops_per_token=training_flops_per_token(model.config, seq_len),
    )
    adapter = {name: tensor.clone() for name, tensor in lora_tensors(model).items()}
    if config.merge:
        merge_lora(model)
    return FinetuneResult(
        model=model,
        adapter=adapter,
        train=result,
        base_loss=base_loss,
        packed_loss=packed_loss,
        trainable=trainable,
        total=total,
        counts=counts,
    )
