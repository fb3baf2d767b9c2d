"""gpt/train/objective.py: what the document mask makes of a loss, in training and in validation."""

import dataclasses

import pytest
import torch
from torch import Tensor

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import token_losses
from gpt.model.transformer import Transformer
from gpt.train.objective import language_objective, mixture_next_token, next_token
from gpt.train.validate import fixed_validation
from tests.tolerances import TOLERANCE
from tests.train.test_loop import CONFIG, CPU

END = 3
MASKED = dataclasses.replace(CONFIG, document_mask=True, balance_loss=0.1)
ROW = [7, 8, 9, END, 10, 11, END, 12, 13, 14, 15, 16, END]


class OneBatch:
    """The same two rows at every cursor."""

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([ROW, [*ROW[7:], *ROW[:7]]])
        return rows[:, :-1], rows[:, 1:]


def make(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    init_weights(model, 0, init_std=0.2)
    return model


def by_document(model: Transformer) -> float:
    """The mean loss of all targets, each document in a forward pass of its own."""
    losses = []
    for row in zip(*OneBatch().batch(0, 2), strict=True):
        ids, _ = (part.tolist() for part in row)
        start = 0
        for end in [i + 1 for i, token in enumerate(ids) if token == END] + [len(ids)]:
            document = torch.tensor([[*ids[start:end], *row[1].tolist()[end - 1 : end]]])
            is_cut = document[0, -2] != END  # else the last target is another document's
            document = document if is_cut else document[:, :-1]
            if document.shape[1] > 1:
                losses.append(token_losses(model(document[:, :-1]), document[:, 1:])[0])
            start = end
    return float(torch.cat(losses).mean())


@torch.no_grad()
def test_the_masked_loss_is_that_of_the_documents_alone(modern: ModelConfig) -> None:
    """Guards: a mask dial that changes nothing; the target at an end-of-text, which nothing of its own
    document predicts, counted or the last target before it lost. Validation measures the same."""
    model = make(modern).eval()
    expected = by_document(model)
    batch = OneBatch().batch(0, 2)
    loss, metrics = language_objective(MASKED, is_mixture=False, end_of_text=END)(model, batch)
    assert abs(float(loss) - expected) <= TOLERANCE["logits_packed_vs_alone"]
    assert float(metrics["loss"]) == float(loss)
    plain, _ = language_objective(CONFIG, is_mixture=False, end_of_text=END)(model, batch)
    assert float(plain) == float(next_token(model, batch)[0])
    assert abs(float(plain) - expected) > 0.01
    within = fixed_validation(OneBatch(), 2, 2, CPU, torch.float32, END)(model)
    assert abs(within - expected) <= TOLERANCE["logits_packed_vs_alone"]
    across = fixed_validation(OneBatch(), 2, 2, CPU, torch.float32)(model)
    assert across == pytest.approx(float(plain), abs=TOLERANCE["logits_packed_vs_alone"])


@torch.no_grad()
def test_a_mixture_s_mask_keeps_its_router_losses(modern: ModelConfig) -> None:
    """Guards: a mixture trained without the mask that its dial asks for, or without its balance loss."""
    model = make(dataclasses.replace(modern, n_experts=4)).eval()
    batch = OneBatch().batch(0, 2)
    loss, metrics = language_objective(MASKED, is_mixture=True, end_of_text=END)(model, batch)
    assert abs(float(metrics["loss"]) - by_document(model)) <= TOLERANCE["logits_packed_vs_alone"]
    extra = MASKED.balance_loss * metrics["balance_loss"] + MASKED.z_loss * metrics["z_loss"]
    assert float(loss) == pytest.approx(float(metrics["loss"] + extra), abs=TOLERANCE["uniform_loss"])
    plain, _ = language_objective(CONFIG, is_mixture=True, end_of_text=END)(model, batch)
    assert float(plain) == float(mixture_next_token(CONFIG.balance_loss, CONFIG.z_loss)(model, batch)[0])
