"""Opening a model to answer with."""

from pathlib import Path

import pytest
import torch

from gpt.catalog.open_model import open_model
from gpt.catalog.open_to_run import open_to_run
from gpt.checkpoint.save_load import open_checkpoint
from gpt.generate.batch_engine import BatchConfig, BatchEngine
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate
from gpt.quantize.methods import quantize_nearest
from gpt.quantize.save import save_quantized
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_token_ids


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """A float checkpoint and its 4-bit one."""
    parent = save_tiny(tmp_path / "parent", tiny_model())
    model = tiny_model()
    quantize_nearest(model, QUANTIZE_CONFIG)
    save_quantized(tmp_path / "packed", model, open_checkpoint(parent), QUANTIZE_CONFIG, stage="quantize")
    return str(parent), str(tmp_path / "packed")


def test_a_packed_model_says_how_it_is_computed(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: another arithmetic on another machine that nobody is told of; a stage's model that changes."""
    plain, packed = folders
    opened = open_to_run(packed)
    assert capsys.readouterr().err.startswith("packed: int4 on the CPU by ")
    named = open_to_run(packed, int4_backend="reference")
    assert "by reference, float head" in capsys.readouterr().err
    with torch.no_grad():
        want = open_model(packed).model(tiny_token_ids())
        assert torch.equal(named.model(tiny_token_ids()), want)
        found = opened.model(tiny_token_ids())
        assert (found - want).norm() / want.norm() < 0.05
        assert torch.equal(
            open_to_run(plain).model(tiny_token_ids()), open_model(plain).model(tiny_token_ids())
        )
    assert capsys.readouterr().err == ""


def test_a_backend_without_packed_linears_is_refused(folders: tuple[str, str]) -> None:
    """Guards: a flag that does nothing."""
    with pytest.raises(ValueError, match="no packed linears"):
        open_to_run(folders[0], int4_backend="c")


def test_a_model_that_runs_in_c_is_batched_to_the_same_text(folders: tuple[str, str]) -> None:
    """Guards: blocks in C that read the paged cache at another row's positions."""
    model = open_to_run(folders[1]).model
    dials = SamplingConfig(max_tokens=8, seed=0, temperature=0.0)
    prompts = [[5, 3, 8, 1, 9], [7], [2, 2, 4]]
    engine = BatchEngine(model, BatchConfig(cache_tokens=256))
    requests = [engine.submit(prompt, dials) for prompt in prompts]
    while engine.has_work:
        engine.step()
    for request, prompt in zip(requests, prompts, strict=True):
        assert request.token_ids == [step.token_id for step in generate(model, prompt, dials)]
