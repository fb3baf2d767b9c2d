"""Is our optimizer torch's? Weights after the same gradients, ours beside torch.optim's, group by group.

A small transformer takes STEPS steps with gpt.optim; a twin gets the same gradients and is updated by
torch.optim with groups, schedule and clipping written out here by hand. AdamW is compared with the plain
(not fused) torch.optim.AdamW; Muon with torch.optim.Muon (adjust_lr_fn "original", Nesterov, five steps),
which runs Newton-Schulz in bfloat16: once as shipped, once with that one conversion replaced by float32.
The tokens are random (synthetic): what is compared is arithmetic.
"""

import argparse
import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.result_file import write_result
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.optim.optimizer import Optimizer

STEPS = 50
WARMUP = 5
MODEL = ModelConfig(
    vocab_size=65, max_seq_len=32, dim=48, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=128, qk_norm=True
)
OPTIM = OptimConfig(
    name="adamw",
    lr=0.01,
    matrix_lr=0.02,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.1,
    schedule="cosine",
    warmup_steps=WARMUP,
    decay_fraction=0.5,
    min_lr_ratio=0.1,
    max_grad_norm=1.5,
)


def rate(step: int) -> float:
    """Return the learning rate over its peak: linear warm-up, then cosine to the floor."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    angle = math.pi * (step - WARMUP) / (STEPS - WARMUP)
    return OPTIM.min_lr_ratio + (1 - OPTIM.min_lr_ratio) * (1 + math.cos(angle)) / 2


def torch_optimizers(model: Transformer, name: str) -> list[torch.optim.Optimizer]:
    """Return torch's optimizers, AdamW first, for groups chosen by the parameters' names."""
    groups: dict[str, list[Tensor]] = {"muon": [], "decayed": [], "plain": []}
    for key, parameter in model.named_parameters():
        if key.endswith("norm.weight"):
            groups["plain"].append(parameter)
        elif key.startswith("blocks.") and name == "muon":
            groups["muon"].append(parameter)
        else:
            groups["decayed"].append(parameter)
    adamw = torch.optim.AdamW(
        [
            {"params": groups["decayed"], "weight_decay": OPTIM.weight_decay},
            {"params": groups["plain"], "weight_decay": 0.0},
        ],
        lr=OPTIM.lr,
        betas=(OPTIM.beta1, OPTIM.beta2),
        eps=1e-8,
        foreach=False,
        fused=False,
    )
    if name == "adamw":
        return [adamw]
    muon = torch.optim.Muon(
        groups["muon"],
        lr=OPTIM.matrix_lr,
        weight_decay=OPTIM.weight_decay,
        momentum=0.95,
        nesterov=True,
        ns_steps=5,
        eps=1e-7,
        adjust_lr_fn="original",
    )
    return [adamw, muon]


@contextlib.contextmanager
def float32_instead_of_bfloat16() -> Iterator[None]:
    """Let torch.optim.Muon's own Newton-Schulz run in float32."""
    with mock.patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.float().clone()):
        yield


def compare(name: str, *, exact: bool = False) -> dict[str, float]:
    """Take STEPS steps with both; return how far the weights end apart, and how far they moved.

    `exact` runs torch's Newton-Schulz in float32.
    """
    model, twin = Transformer(MODEL), Transformer(MODEL)
    init_weights(model, 0)
    twin.load_state_dict(model.state_dict())
    first = {key: p.detach().clone() for key, p in model.named_parameters()}
    ours = Optimizer(model, dataclasses.replace(OPTIM, name=name), STEPS)
    theirs = torch_optimizers(twin, name)
    peaks = (OPTIM.lr, OPTIM.matrix_lr)
    generator = torch.Generator().manual_seed(1)
    n_clipped = 0
    for step in range(STEPS):
        ids = torch.randint(0, MODEL.vocab_size, (4, 17), generator=generator)
        mean_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            assert a.grad is not None
            b.grad = a.grad.clone()
        n_clipped += ours.clip() > OPTIM.max_grad_norm
        ours.step(step)
        nn.utils.clip_grad_norm_(twin.parameters(), OPTIM.max_grad_norm)
        for peak, optimizer in zip(peaks, theirs, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate(step)
            with float32_instead_of_bfloat16() if exact else contextlib.nullcontext():
                optimizer.step()
    pairs = list(zip(model.named_parameters(), twin.parameters(), strict=True))
    apart = torch.cat([(a - b).detach().flatten() for (_, a), b in pairs])
    moved = torch.cat([(a.detach() - first[key]).flatten() for (key, a), _ in pairs])
    return {
        "max_difference": float(f"{apart.abs().max():.3g}"),
        "relative_difference": float(f"{apart.norm() / moved.norm():.3g}"),
        "max_movement": float(f"{moved.abs().max():.3g}"),
        "steps_clipped": n_clipped,
    }


def main() -> None:
    """Compare all and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "data": "random tokens (synthetic)",
        "seed": 1,
        "steps": STEPS,
        "n_weights": sum(p.numel() for p in Transformer(MODEL).parameters()),
        "optimizer": dataclasses.asdict(OPTIM),
        "adamw": compare("adamw"),
        "muon": compare("muon"),
        "muon, torch's Newton-Schulz in float32": compare("muon", exact=True),
    }
    write_result("optimizer_against_torch", result)


if __name__ == "__main__":
    main()
