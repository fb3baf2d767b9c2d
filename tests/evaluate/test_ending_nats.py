"""Endings behind a shared context."""

import pytest
import torch

from gpt.evaluate.ending_nats import MOST_AGAIN, Question, ending_nats
from gpt.evaluate.token_nats import token_nats
from tests.evaluate.tiny_models import tiny_model
from tests.tolerances import TOLERANCE

LENGTHS = (9, 1, 12, 9, 1 + MOST_AGAIN, 30, 2)
"""Of contexts: equal ones, one token, the farthest that still shares a batch with it, one alone."""


def questions_of(lengths: tuple[int, ...], n_endings: int = 3) -> list[Question]:
    g = torch.Generator().manual_seed(1)

    def draw(n: int) -> list[int]:
        return torch.randint(300, (n,), generator=g).tolist()

    return [
        Question(context=draw(n), endings=[draw(1 + k + n % 4) for k in range(n_endings)]) for n in lengths
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_experts": 4},
        {"position": "learned"},
        {"token_shift": True, "value_residual": True, "bigram_rows": 90_000},
        {"attention_backend": "reference", "qk_norm": True},
    ],
)
@pytest.mark.parametrize("batch_tokens", [16, 4096])
def test_a_shared_context_changes_nothing(changes: dict[str, object], batch_tokens: int) -> None:
    """Against every ending with its own whole context (token_nats), in the given order.

    Guards: a context's last tokens lost, an ending behind another question's context, an ending that sees
    its neighbour, a token shift or a bigram that forgets what stood before, padding that leaks.
    """
    model = tiny_model(**changes)
    questions = questions_of(LENGTHS)
    found = ending_nats(model, questions, batch_tokens)
    for question, pieces in zip(questions, found, strict=True):
        samples = [
            ([*question.context, *ending], [False] * len(question.context) + [True] * len(ending))
            for ending in question.endings
        ]
        for expected, piece in zip(token_nats(model, samples, 4096), pieces, strict=True):
            assert piece.tolist() == pytest.approx(expected.tolist(), abs=TOLERANCE["nats_padded_vs_alone"])


def test_the_context_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that the blocks see: 2 contexts of 20, cached 19, and 2 x 3 tails of at most 1 + 3 tokens.

    Endings of 1, 2 and 3 tokens: inputs are the context's last token and all of an ending but its last,
    padded to 3: 2 * 19 + 6 * 3 = 56, where 6 whole sequences would be 126 or more. Guards a cache that is
    made and not used.
    """
    model = tiny_model()
    seen = 0

    def count(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += args[0].shape[0] * args[0].shape[1]

    model.blocks[0].register_forward_pre_hook(count)
    ending_nats(model, questions_of((20, 20)), 4096)
    assert seen == 56


def test_too_long_is_refused() -> None:
    """Guards a silent cut: 64 tokens and 2 more are 65 inputs for a context of 64."""
    with pytest.raises(ValueError, match="65 tokens do not fit max_seq_len 64"):
        ending_nats(tiny_model(), [Question(context=[1] * 64, endings=[[2, 3]])], 4096)
