"""Next-token prediction whose head is computed where a target counts, and nowhere else.

In a chat only the assistant's words are learned: most positions need no logits, and under a vocabulary of
49,152 the head costs as much as ten blocks. The loss and its gradients are those of the plain objective
(gpt/train/objective.py). Not under torch.compile: the head's rows change in number from batch to batch, and
the hidden states are asked for around the compiled forward.
"""

from functools import partial

import torch
from torch import Tensor, nn

from gpt.dataset.loader import Batches
from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy
from gpt.model.documents import split_documents
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.config import TrainConfig
from gpt.train.objective import Batch, Objective, language_objective, mask_token
from gpt.train.validate import Validate


def finetuning_objective(config: TrainConfig, end_of_text: int) -> Objective:
    """Return the objective of fine-tuning as the dials want it; compiled runs take the plain one."""
    if config.compile:
        return language_objective(config, is_mixture=False, end_of_text=end_of_text)
    return partial(counted_next_token, end_of_text=mask_token(config, end_of_text))


def counted_next_token(
    model: nn.Module, batch: Batch, end_of_text: int | None = None
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Return the mean cross-entropy of the counted targets, nats per token; within documents if an id
    parts them. Raises ValueError when none counts."""
    loss, n = counted_loss(model, batch, end_of_text)
    if not n:
        raise ValueError("every target of the batch is masked: nothing to learn from it")
    return loss, {"loss": loss.detach()}


def counted_loss(model: nn.Module, batch: Batch, end_of_text: int | None) -> tuple[Tensor, int]:
    """Return the mean nats of the counted targets of token_ids and targets (B, T), and their number."""
    assert isinstance(model, Transformer), type(model).__name__
    token_ids, targets = batch
    document_ids = None
    if end_of_text is not None:
        document_ids, targets = split_documents(token_ids, targets, end_of_text)
    x = model.hidden_states(token_ids, document_ids=document_ids).flatten(0, 1)  # (N, C)
    places = (targets.flatten() != IGNORE).nonzero()[:, 0]  # (M,)
    loss = chunked_cross_entropy(
        x.index_select(0, places),
        model.lm_head.weight,
        targets.flatten().index_select(0, places),
        ignore=IGNORE,
        softcap=model.config.logit_softcap,
    )
    return loss, len(places)


def counted_validation(
    batches: Batches,
    n_batches: int,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    end_of_text: int | None = None,
) -> Validate:
    """Return a function model -> mean nats per counted token over the first n_batches."""

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        for i in range(n_batches):
            token_ids, targets = (t.to(device) for t in batches.batch(i * batch_size, batch_size))
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss, n = counted_loss(model, (token_ids, targets), end_of_text)
            total, count = total + float(loss) * n if n else total, count + n
        model.train(was_training)
        return total / count

    return validate
