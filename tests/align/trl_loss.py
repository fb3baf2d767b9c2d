"""trl's own DPO loss, called with a model that returns given log-probabilities. Not a test itself."""

from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from torch import Tensor


def trl_dpo_loss(logprobs: Tensor, reference: Tensor, learned: Tensor, *, beta: float, kind: str) -> float:
    """Return trl's loss for log-probabilities (2 n, T) of next tokens: all chosen sides, then all rejected.

    `learned` (2 n, T + 1) marks the answers' tokens; `kind` is trl's: sigmoid, or sigmoid_norm.
    """
    from trl import DPOTrainer

    class Model:
        training = True

        def __call__(self, **_: object) -> SimpleNamespace:
            return SimpleNamespace(
                log_probs=logprobs,
                entropy=torch.zeros_like(logprobs),
                mean_logits=torch.zeros_like(logprobs),
                is_top1=torch.zeros_like(logprobs, dtype=torch.bool),
            )

    chosen, rejected = reference.sum(dim=1).chunk(2)
    trainer = MagicMock()
    trainer.ld_alpha, trainer.precompute_ref_logps, trainer.aux_loss_enabled = None, True, False
    trainer.f_divergence_type, trainer.beta, trainer.label_smoothing = "reverse_kl", beta, 0.0
    trainer.loss_types, trainer.loss_weights, trainer.use_weighting = [kind], [1.0], False
    trainer.model = Model()
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.gather_for_metrics = trainer.accelerator.gather = lambda x: x
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    inputs = {
        "input_ids": torch.zeros_like(learned, dtype=torch.int64),
        "attention_mask": torch.ones_like(learned, dtype=torch.int64),
        "completion_mask": learned.long(),
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    return float(DPOTrainer._compute_loss(trainer, Model(), inputs, return_outputs=False))
