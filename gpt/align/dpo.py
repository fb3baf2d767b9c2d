"""DPO: a policy made to prefer the chosen answer by more than its reference does.

Rafailov et al. 2023, eq. 7, with the sum of the answer's log-probabilities; divided by its length it is
the length-normalized variant (Lambert et al. 2024, Tulu 3, eq. 6). Label smoothing: Mitchell 2023 (cDPO).
The reference's log-probabilities are computed once, before the first step, with the policy as it starts:
no second model is in memory, whatever is trained.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.align.config import DpoConfig
from gpt.align.log_probs import answer_logprobs
from gpt.dataset.preference_pairs import PreferencePairs
from gpt.train.config import TrainConfig
from gpt.train.objective import Batch, Objective
from gpt.train.precision import DTYPES, autocast
from gpt.train.validate import Validate


def dpo_loss(logratios: Tensor, config: DpoConfig) -> Tensor:
    """Return the mean loss of logratios (2 n,): log pi - log ref of chosen and rejected sides in turn.

    By hand, beta 0.1: logratios (1, -1) give a margin of 0.2 and ln(1 + e^-0.2) = 0.598139; equal
    logratios give ln 2.
    """
    margin = config.beta * (logratios[0::2] - logratios[1::2])  # (n,)
    eps = config.label_smoothing
    return -((1 - eps) * F.logsigmoid(margin) + eps * F.logsigmoid(-margin)).mean()


def dpo_objective(config: DpoConfig) -> Objective:
    """Return (model, batch) -> DPO loss and what the policy earns: batches of PreferencePairs."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        token_ids, targets, reference = batch
        logits = model(token_ids)
        logratios = answer_logprobs(logits, targets, is_mean=config.length_normalized) - reference
        loss = dpo_loss(logratios, config)
        earned = config.beta * logratios.detach()
        margin = earned[0::2] - earned[1::2]
        return loss, {
            "loss": loss.detach(),
            "margin": margin.mean(),
            "accuracy": (margin > 0).float().mean(),
            "chosen_reward": earned[0::2].mean(),
            "rejected_reward": earned[1::2].mean(),
        }

    return objective


@torch.no_grad()
def reference_logprobs(
    model: nn.Module, pairs: PreferencePairs, *, is_mean: bool, train: TrainConfig, device: torch.device
) -> Tensor:
    """Return the log-probability of every side under the model as it is, (2 n,) on the CPU.

    Computed in the precision of training: only so the first loss is ln 2.
    """
    found, batch_size = [], train.micro_batch_size
    for first in range(0, 2 * len(pairs), batch_size):
        rows = pairs.rows(range(first, min(first + batch_size, 2 * len(pairs))))
        token_ids, targets = (part.to(device) for part in rows)
        with autocast(DTYPES[train.dtype], device):
            logits = model(token_ids)
        found.append(answer_logprobs(logits, targets, is_mean=is_mean).cpu())
    return torch.cat(found)


def pair_validation(
    pairs: PreferencePairs, objective: Objective, train: TrainConfig, device: torch.device
) -> tuple[Validate, dict[str, float]]:
    """Return a function model -> mean loss on the first pairs, each once, and what it found last time."""
    batch_size = min(train.micro_batch_size, 2 * len(pairs))
    n_batches = min(train.eval_batches, 2 * len(pairs) // batch_size)
    found: dict[str, float] = {}

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        sums: dict[str, float] = {}
        for i in range(n_batches):
            batch = tuple(part.to(device) for part in pairs.batch(i * batch_size, batch_size))
            with autocast(DTYPES[train.dtype], device):
                _, metrics = objective(model, batch)
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + float(value) / n_batches
        found.clear()
        found.update(sums)
        return sums["loss"]

    return validate, found
