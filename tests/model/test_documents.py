"""gpt/model/documents.py and the mask through the whole model: a packed row equals its documents alone."""

import dataclasses
import importlib.util
import itertools

import pytest
import torch
from torch import Tensor

from gpt.model.config import ModelConfig
from gpt.model.documents import follows_in_document, positions_in_documents, split_documents
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from tests.model.every_part import make
from tests.tolerances import TOLERANCE

END = 3
DOCUMENTS = [[7, 8, 9, 10, 3], [11, 3], [12, 13, 14, 15, 16, 17, 18, 3], [8, 9, 10]]
"""The last is cut by the row's end."""
CHANGES = {
    "modern": {},
    "reference": {"attention_backend": "reference"},
    "mqa": {"n_kv_heads": 1},
    "shift-values-bigram": {"token_shift": True, "value_residual": True, "bigram_rows": 500},
    "mixture": {"n_experts": 4},
    "softcap": {"logit_softcap": 15.0},
}
if importlib.util.find_spec("triton"):  # without it tests/kernels says what to install
    CHANGES["flash"] = {"attention_backend": "flash"}


def packed() -> tuple[Tensor, Tensor]:
    """Two rows (2, T) of the documents in two orders, and their document ids."""
    orders = DOCUMENTS, [*DOCUMENTS[2::-1], DOCUMENTS[3]]
    rows = torch.tensor([list(itertools.chain(*order)) for order in orders])
    return rows, split_documents(rows, rows, END)[0]


def alone(model: Transformer, row: Tensor, ids: Tensor) -> Tensor:
    """Logits (T, V) of a row, each document in a forward pass of its own."""
    return torch.cat([model(row[ids == i][None])[0] for i in ids.unique()])


@pytest.mark.parametrize(
    ("row", "ids", "ignored"),
    [
        ([5, 6, 3, 7, 3, 8], [0, 0, 0, 1, 1, 2], [2, 4]),
        ([3, 5, 3, 3, 6, 3, 7], [0, 0, 0, 1, 1, 1, 2], [2, 5]),  # logs open with one: 3 a 3, 3 b 3, c
        ([5, 6, 3, 3, 7, 8], [0, 0, 0, 1, 1, 1], [2]),  # a chat, then a log
        ([5, 3, 3, 3, 3, 3], [0, 0, 1, 1, 2, 2], [1, 3, 5]),  # padding: pairs that see each other
        ([5, 6, 7, 8, 9, 10], [0] * 6, []),
    ],
)
def test_documents_by_hand(row: list[int], ids: list[int], ignored: list[int]) -> None:
    """Guards: an end-of-text given to the next document, an opening one that is cut off from its text, a
    target in another document."""
    token_ids, targets = torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)
    found, left = split_documents(token_ids, targets, END)
    assert found.tolist() == [ids]
    assert [i for i, t in enumerate(left[0].tolist()) if t == IGNORE] == ignored
    places = [ids[:i].count(ids[i]) for i in range(len(ids))]
    assert positions_in_documents(found).tolist() == [places]
    assert follows_in_document(found).tolist() == [[place > 0 for place in places]]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_packed_row_equals_its_documents_alone(modern: ModelConfig, change: dict) -> None:
    """Guards: anything that looks across a border. Rotary positions need no reset: scores depend on
    differences of positions alone, which are the same at the end of a row."""
    model = make(dataclasses.replace(modern, n_layers=3, **change))
    rows, ids = packed()
    masked, unmasked = model(rows, document_ids=ids), model(rows)
    for row in range(2):
        expected = alone(model, rows[row], ids[row])
        assert (masked[row] - expected).abs().max() <= TOLERANCE["logits_packed_vs_alone"]
        later = ids[row] > 0
        assert (unmasked[row] - expected)[later].abs().max() > 0.1
        assert torch.allclose(
            unmasked[row][~later], expected[~later], atol=TOLERANCE["logits_packed_vs_alone"]
        )


@torch.no_grad()
def test_learned_positions_start_anew(gpt2_mode: ModelConfig) -> None:
    """Guards: GPT-2 mode, whose positions are absolute, placing a document where its row has it."""
    model = make(gpt2_mode)
    rows, ids = packed()
    difference = model(rows, document_ids=ids)[0] - alone(model, rows[0], ids[0])
    assert difference.abs().max() <= TOLERANCE["logits_packed_vs_alone"]


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_gradients_are_the_sum_of_the_documents(modern: ModelConfig, change: dict, recompute: bool) -> None:
    """Guards: a mask of the forward pass that the backward pass, or its recomputation, does not know."""
    model = make(dataclasses.replace(modern, n_layers=3, **change))
    model.recompute_blocks = recompute
    rows, ids = packed()
    model(rows, document_ids=ids).square().sum().backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in range(2):
        alone(model, rows[row], ids[row]).square().sum().backward()
    assert len(together) == len(list(model.parameters()))
    for name, p in model.named_parameters():
        assert p.grad is not None
        scale = p.grad.abs().max()
        assert (together[name] - p.grad).abs().max() <= scale * TOLERANCE["gradients_packed_vs_alone"], name


def test_one_document_is_the_plain_pass(modern: ModelConfig) -> None:
    """Guards: a mask that takes something away where there is none; a cache that it ignores."""
    model = make(modern)
    rows = torch.arange(24).view(2, 12) + 10
    ids = torch.zeros_like(rows)
    with torch.no_grad():
        difference = model(rows, document_ids=ids) - model(rows)
    assert difference.abs().max() <= TOLERANCE["attention_vs_reference"]
    with pytest.raises(AssertionError, match="documents and a cached prefix do not mix"):
        model(rows, KVCache(model.config, 2), ids)


@torch.no_grad()
def test_compiled_without_a_break(modern: ModelConfig) -> None:
    """Guards: a mask that splits the compiled model, or that is frozen at the first batch's borders."""
    model = make(dataclasses.replace(modern, **CHANGES["shift-values-bigram"]))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    rows, ids = packed()
    for shift in (0, 3):
        moved = rows.roll(shift, 1)
        ids = split_documents(moved, moved, END)[0]
        difference = compiled(moved, document_ids=ids) - model(moved, document_ids=ids)
        assert difference.abs().max() <= TOLERANCE["logits_packed_vs_alone"]
