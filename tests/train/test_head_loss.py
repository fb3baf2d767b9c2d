"""The dial train.head_loss: the same training, whichever way the head and its loss are computed."""

import dataclasses
from importlib.util import find_spec

import pytest
import torch

from gpt.ladder.config import LadderModelConfig
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.climb import LadderConfig
from gpt.train.config import HeadLoss
from gpt.train.objective import language_objective
from gpt.train.validate import fixed_validation
from tests.model.every_part import make
from tests.tolerances import TOLERANCE
from tests.train.test_loop import CONFIG, CPU, run
from tests.train.test_objective import END, MASKED, OneBatch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton")
MODELS = {
    "tied": {},
    "softcap": {"logit_softcap": 2.0},
    "untied": {"tie_embeddings": False},
    "mixture": {"n_experts": 4},
}


def gradients(
    config: ModelConfig,
    way: HeadLoss,
    *,
    autocast: bool = False,
    recompute: bool = False,
    compiled: bool = False,
) -> dict[str, torch.Tensor]:
    """Return the loss and every parameter's gradient for one batch of three documents a row."""
    model = make(config).to(DEVICE).train()
    model.recompute_blocks = recompute
    dials = dataclasses.replace(MASKED, head_loss=way)
    objective = language_objective(dials, is_mixture=config.n_experts > 0, end_of_text=END)
    batch = tuple(part.to(DEVICE) for part in OneBatch().batch(0, 2))
    forward = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
        loss, metrics = objective(forward, batch)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(found) == len(dict(model.named_parameters()))
    return found | {"loss": metrics["loss"]}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two sets of gradients, each relative to its largest."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-3)) for name in a)


@pytest.mark.parametrize(
    ("way", "kind"),
    [*(("chunked", kind) for kind in MODELS), pytest.param("fused", "softcap", marks=NEEDS_TRITON)],
)
def test_equals_the_whole(way: HeadLoss, kind: str, modern: ModelConfig) -> None:
    """Guards: a tied embedding that gets one of its two gradients, a softcap or a mask that only the whole
    way knows, a mixture's losses lost."""
    config = dataclasses.replace(modern, **MODELS[kind])
    assert apart(gradients(config, way), gradients(config, "whole")) <= TOLERANCE["head_loss_gradient"]


def test_recomputed_blocks_and_autocast(modern: ModelConfig) -> None:
    """Guards: a head that runs in fp32 under autocast, or a graph that recomputation loses."""
    whole = gradients(modern, "whole", autocast=True, recompute=True)
    chunked = gradients(modern, "chunked", autocast=True, recompute=True)
    assert apart(chunked, whole) <= TOLERANCE["head_loss_gradient_bfloat16"]


def test_one_compiled_graph(modern: ModelConfig) -> None:
    """fullgraph refuses a break. Guards: a loss that is computed outside of the compiled model, or by calling
    around it."""
    config = dataclasses.replace(modern, n_layers=1, logit_softcap=2.0)
    compiled = gradients(config, "chunked", compiled=True)
    assert apart(compiled, gradients(config, "chunked")) <= TOLERANCE["head_loss_gradient"]


def test_training_and_validation_take_the_dial(modern: ModelConfig) -> None:
    """Twelve steps of the loop. Guards: a dial that nothing reads; a validation whose whole logits are the
    peak of the memory that the dial saves, or that weighs its batches by rows, not by counted targets."""

    class Deaf(Transformer):
        def logits(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("logits were made whole")

    deaf = make(modern)
    deaf.__class__ = Deaf
    dials = dataclasses.replace(MASKED, head_loss="chunked")
    language_objective(dials, is_mixture=False, end_of_text=END)(deaf, OneBatch().batch(0, 2))
    ways: tuple[HeadLoss, HeadLoss] = ("chunked", "whole")
    found = [
        fixed_validation(OneBatch(), 2, 2, CPU, torch.float32, END, way)(
            deaf if way == "chunked" else make(modern)
        )
        for way in ways
    ]
    assert found[0] == pytest.approx(found[1], abs=TOLERANCE["uniform_loss"])
    objectives = (
        language_objective(dataclasses.replace(CONFIG, head_loss=way), is_mixture=False, end_of_text=END)
        for way in ways
    )
    chunked, whole = (run(modern, objective=objective)[1] for objective in objectives)
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    assert abs(chunked.val_loss - whole.val_loss) <= TOLERANCE["head_loss_twelve_steps"]


def test_nothing_to_learn_from_is_refused(modern: ModelConfig) -> None:
    """Guards: NaN instead of the message that the whole way gives."""
    ids, _ = OneBatch().batch(0, 2)
    objective = language_objective(
        dataclasses.replace(CONFIG, head_loss="chunked"), is_mixture=False, end_of_text=END
    )
    with pytest.raises(ValueError, match="every target of the batch is masked"):
        objective(make(modern), (ids, torch.full_like(ids, IGNORE)))


def test_the_ladder_refuses_it() -> None:
    """Guards: a dial that rungs pass over in silence."""
    dials = dataclasses.replace(CONFIG, head_loss="chunked")
    shape = LadderModelConfig(context=CONFIG.seq_len, dim=8, n_heads=2, n_blocks=1)
    with pytest.raises(ValueError, match=r"train\.head_loss: rungs have heads of their own, got 'chunked'"):
        LadderConfig(model=shape, train=dials)
