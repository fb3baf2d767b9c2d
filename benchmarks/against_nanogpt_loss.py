"""Does our GPT-2 mode, in our own loop, learn as nanoGPT does? One loss curve beside the other.

Both start from nanoGPT's initial weights and see the same batches of tiny Shakespeare with the same AdamW
settings, dropout 0, float32. Ours runs through gpt.train.loop. nanoGPT's model and its own
configure_optimizers run in the few lines of `run_nanogpt`; the schedule is ours on both sides (nanoGPT's
warm-up is one step longer). nanoGPT's GELU is exact, ours is GPT-2's tanh form: it runs as it is, and once
more with its GELU modules exchanged for the tanh form. The noise beside which a difference is read: two
nanoGPT runs from the same weights whose batches come in another order.

    python -m benchmarks.against_nanogpt_loss --nanogpt FOLDER      (a clone of karpathy/nanoGPT)

Needs tiny Shakespeare (the registry's URL, or RAWGPT_DATA_MIRROR).
"""

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.nanogpt import CLONE, load_nanogpt, nanogpt_model
from benchmarks.result_file import write_result
from benchmarks.tiny_shakespeare import load_text
from gpt.checkpoint.manifest import file_sha256
from gpt.config import load_section
from gpt.dataset.loader import TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.optim.schedule import lr_ratio
from gpt.train.climb import LadderConfig, full_loss
from gpt.train.config import TrainConfig
from gpt.train.loop import train
from gpt.train.metrics import JsonlSink
from gpt.train.objective import next_token

STEPS, CONTEXT, DIM, LAYERS, HEADS = 200, 64, 128, 4, 4
PARTS = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention.o_proj",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "feed_forward.up_proj",
    "mlp.c_proj": "feed_forward.down_proj",
}


def to_our_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Map nanoGPT's state dict (GPT-2's names, q, k and v in one matrix) to ours."""
    ours = {
        "embed.weight": theirs["transformer.wte.weight"],
        "lm_head.weight": theirs["lm_head.weight"],
        "position.weight": theirs["transformer.wpe.weight"],
    }
    for end in ("weight", "bias"):
        ours[f"final_norm.{end}"] = theirs[f"transformer.ln_f.{end}"]
        for layer in range(LAYERS):
            there, here = f"transformer.h.{layer}", f"blocks.{layer}"
            for a, b in PARTS.items():
                ours[f"{here}.{b}.{end}"] = theirs[f"{there}.{a}.{end}"]
            parts = theirs[f"{there}.attn.c_attn.{end}"].chunk(3)  # q, k, v: (C, C) or (C,) each
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                ours[f"{here}.attention.{name}.{end}"] = part
    return ours


class AllLogits(nn.Module):
    """nanoGPT's model with the logits of every position, as full_loss wants them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        return self.model(token_ids, token_ids)[0]


def run_nanogpt(model: nn.Module, batches: TokenWindows, config: TrainConfig) -> list[float]:
    """Train nanoGPT's model in place; return the loss of every step."""
    optim, losses = config.optim, []
    optimizer = model.configure_optimizers(  # type: ignore[operator]
        optim.weight_decay, optim.lr, (optim.beta1, optim.beta2), "cpu"
    )
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * lr_ratio(optim, step, config.steps)
        _, loss = model(*batches.batch(step * config.micro_batch_size, config.micro_batch_size))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optim.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def run_ours(model: nn.Module, batches: TokenWindows, config: TrainConfig) -> list[float]:
    """Train our model with our loop; return the loss of every step."""
    result = train(
        model,
        batches,
        next_token,
        config,
        name="ours",
        validate=lambda _: 0.0,  # the whole validation text is measured once, afterwards
        sink=JsonlSink(Path("/dev/null")),
        device=torch.device("cpu"),
    )
    return [row["loss"] for row in result.history]


def difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """Compare two runs: the steps' losses, and the loss over the whole validation text."""
    steps = [abs(x - y) for x, y in zip(a["losses"], b["losses"], strict=True)]
    return {
        "max": float(f"{max(steps):.3g}"),
        "mean": float(f"{statistics.mean(steps):.3g}"),
        "first_step": float(f"{steps[0]:.3g}"),
        "validation": float(f"{abs(a['val_loss'] - b['val_loss']):.3g}"),
    }


def main() -> None:
    """Run all four and write the curves and their distances."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nanogpt", type=Path, required=True, help=f"folder with model.py: {CLONE}")
    folder = parser.parse_args().nanogpt
    source = load_nanogpt(folder)
    torch.set_num_threads(1)
    text = load_text()
    laptop = load_section(Path("conf/laptop.yaml"), "ladder", LadderConfig).train
    optim = dataclasses.replace(
        laptop.optim, lr=1e-3, beta2=0.99, weight_decay=0.1, warmup_steps=20, min_lr_ratio=0.1, name="adamw"
    )
    config = dataclasses.replace(
        laptop, steps=STEPS, seq_len=CONTEXT, micro_batch_size=12, log_every=1, eval_every=STEPS, optim=optim
    )
    torch.manual_seed(1337)
    sizes = ModelConfig(
        vocab_size=text.n_symbols,
        max_seq_len=CONTEXT,
        dim=DIM,
        n_layers=LAYERS,
        n_heads=HEADS,
        n_kv_heads=HEADS,
        ffn_dim=4 * DIM,
        norm="layernorm",
        activation="gelu",
        position="learned",
        bias=True,
    )
    start = nanogpt_model(source, sizes).state_dict()
    start = {key: value.clone() for key, value in start.items()}

    def nanogpt(*, seed: int, tanh: bool) -> dict[str, Any]:
        model = nanogpt_model(source, sizes)
        model.load_state_dict(start)
        if tanh:
            for block in model.transformer.h:
                block.mlp.gelu = nn.GELU(approximate="tanh")
        losses = run_nanogpt(model, TokenWindows(text.train, CONTEXT, seed), config)
        return {"losses": losses, "val_loss": full_loss(AllLogits(model), text.val, CONTEXT, 64)}

    def ours(*, seed: int) -> dict[str, Any]:
        model = Transformer(sizes)
        model.load_state_dict(to_our_names(start))
        losses = run_ours(model, TokenWindows(text.train, CONTEXT, seed), config)
        return {"losses": losses, "val_loss": full_loss(model, text.val, CONTEXT, 64)}

    runs = {
        "ours": ours(seed=1),
        "nanogpt": nanogpt(seed=1, tanh=False),
        "nanogpt, tanh GELU": nanogpt(seed=1, tanh=True),
        "nanogpt, other batches": nanogpt(seed=2, tanh=False),
    }
    report = {
        "ours against nanogpt": difference(runs["ours"], runs["nanogpt"]),
        "ours against nanogpt, tanh GELU": difference(runs["ours"], runs["nanogpt, tanh GELU"]),
        "noise: nanogpt against nanogpt, other batches": difference(
            runs["nanogpt"], runs["nanogpt, other batches"]
        ),
    }
    write_result(
        "against_nanogpt_loss",
        {
            "data": "tinyshakespeare, split 90/10 by position",
            "nanogpt_model_sha256": file_sha256(folder / "model.py"),
            "seeds": {"weights": 1337, "batches": 1, "other batches": 2},
            "steps": STEPS,
            "parameters": int(np.sum([p.numel() for k, p in start.items() if k != "lm_head.weight"])),
            "dtype": "fp32",
            "threads": 1,
            "unit": "nats per character, difference of the loss of each step; validation over the whole text",
            "optim": dataclasses.asdict(optim),
            "difference": report,
            "val_loss": {name: round(run["val_loss"], 4) for name, run in runs.items()},
            "losses": {name: [round(loss, 4) for loss in run["losses"][9::10]] for name, run in runs.items()},
            "losses_of_steps": list(range(10, STEPS + 1, 10)),
        },
    )


if __name__ == "__main__":
    main()
