"""A quantized model in its runtime form: the same answers, nothing ignored, refusals."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt.checkpoint.save_load import model_tensors
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate, next_logits
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from gpt.quantize.cpu_model import RuntimeLinear, prepare_for_cpu
from gpt.quantize.methods import quantize_nearest
from tests.evaluate.tiny_models import QUANTIZE_CONFIG
from tests.kernels.test_int4_cpu import best
from tests.tolerances import TOLERANCE

needs_c = pytest.mark.skipif(best() is None, reason="the kernel needs Linux on x86-64 with AVX2")
CONFIG: dict[str, Any] = {
    "vocab_size": 200,
    "max_seq_len": 64,
    "dim": 128,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "ffn_dim": 176,
}
IDS = list(range(3, 40))


def quantized(group_size: int = 16, **changes: Any) -> Transformer:
    """A model with random weights, its linears rounded to 4 bits."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**CONFIG, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.08)
    quantize_nearest(model, dataclasses.replace(QUANTIZE_CONFIG, group_size=group_size))
    return model.eval().requires_grad_(False)


def logits(model: Transformer, ids: list[int] = IDS, prompt: int = 5) -> Tensor:
    """Logits (n, V) after a prompt and after each further id, through the cache."""
    cache = KVCache(model.config, 1)
    rows = [next_logits(model, torch.tensor([ids[:prompt]]), cache)]
    rows += [next_logits(model, torch.tensor([[i]]), cache) for i in ids[prompt:]]
    return torch.stack(rows)


@needs_c
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 4, "norm_gain": False},
        {"n_heads": 2, "n_kv_heads": 1, "tie_embeddings": False, "qk_norm": True},
    ],
)
def test_the_decoder_equals_module_by_module(changes: dict[str, Any]) -> None:
    """Guards: every line of int4_decode.c: a head of another group, a position off by one, keys stored
    unrotated, a gain left out, threads that meet too seldom."""
    model = quantized(**changes)
    assert prepare_for_cpu(model, backend="c", head="float").decoder
    decoder, threads = model.decoder, torch.get_num_threads()
    calls = SimpleNamespace(n=0)
    step = decoder.step  # type: ignore[union-attr]

    def counted(*args: Any) -> Tensor:
        calls.n += 1
        return step(*args)

    decoder.step = counted  # type: ignore[method-assign,union-attr]
    try:
        found = []
        for n in (1, 2, 5):  # more than there are cores: who waits must give way
            torch.set_num_threads(n)
            found.append(logits(model))
    finally:
        torch.set_num_threads(threads)
    assert calls.n == 3 * (len(IDS) - 5 + 1)
    assert all(torch.equal(found[0], other) for other in found[1:])
    model.decoder = None
    errors = (found[0] - logits(model)).abs().amax(1)  # (n,)
    assert errors.quantile(0.3) < TOLERANCE["cpu_decoder_vs_modules"]  # tokens whose inputs all round alike
    assert errors.max() < TOLERANCE["cpu_decoder_rounded_apart"]


@needs_c
def test_rows_of_a_batch_equal_module_by_module_and_a_row_alone() -> None:
    """Guards: a row's rotation or rounding taken from another row; and that the result of a request hangs on
    its neighbours: but for attention, which is PyTorch's, a row's bits are its own."""
    model = quantized()
    prepare_for_cpu(model, backend="c", head="float")
    decoder, threads = model.decoder, torch.get_num_threads()
    prompts, further = torch.tensor([IDS[:9], IDS[9:18], IDS[18:27]]), torch.tensor([[7], [8], [9]])

    def run(rows: slice) -> Tensor:
        cache = KVCache(model.config, len(prompts[rows]))
        with torch.inference_mode():
            seen = [model.hidden_states(ids[rows], cache) for ids in (prompts, further, further + 3)]
        return torch.cat(seen, dim=1)  # (B, T, C)

    try:
        torch.set_num_threads(2)
        together = run(slice(None))
        torch.set_num_threads(1)
        assert torch.equal(run(slice(None)), together)
    finally:
        torch.set_num_threads(threads)
    alone = torch.cat([run(slice(i, i + 1)) for i in range(3)])
    model.decoder = None
    by_module = run(slice(None))
    for other in (alone, by_module):
        errors = (together - other).abs().amax(2).flatten()  # (B * T,)
        assert errors.quantile(0.3) < TOLERANCE["cpu_decoder_vs_modules"]
        assert errors.max() < TOLERANCE["cpu_decoder_rounded_apart"]
    assert decoder is not None


@needs_c
def test_the_answers_stay_near_the_reference() -> None:
    """Guards: a linear that got another's weights. Rounding x costs 0.6% of each product."""
    plain, fast = logits(quantized()), quantized()
    report = prepare_for_cpu(fast, backend="auto", head="float")
    assert str(report) == "int4 on the CPU by c, one call a token, float head"
    error = (logits(fast) - plain).norm() / plain.norm()
    assert 1e-4 < error < 0.03
    fine, coarse = quantized(), quantized()
    prepare_for_cpu(fine, head="int8")
    prepare_for_cpu(coarse, head="int4")
    errors = [float((logits(m) - plain).norm() / plain.norm()) for m in (fine, coarse)]
    assert errors[0] < 0.035
    assert errors[0] < errors[1] < 0.2


def test_torch_and_reference_answer_the_same() -> None:
    """Guards: a runtime form that only works where the C kernel does."""
    plain = logits(quantized(group_size=32, ffn_dim=192))
    for backend in ("torch", "reference"):
        model = quantized(group_size=32, ffn_dim=192)
        report = prepare_for_cpu(model, backend=backend, head="float")
        assert (report.backend, report.decoder, report.head) == (backend, False, "float")
        error = (logits(model) - plain).norm() / plain.norm()
        assert error < (0.02 if backend == "torch" else 1e-6)


@needs_c
@pytest.mark.parametrize("changes", [{"bias": True}, {"token_shift": True}, {"value_residual": True}])
def test_other_shapes_go_module_by_module(changes: dict[str, Any]) -> None:
    """Guards: a decoder that leaves out a bias, a shift or a mixed value."""
    plain, model = logits(quantized(**changes)), quantized(**changes)
    assert not prepare_for_cpu(model, backend="c").decoder
    assert (logits(model) - plain).norm() / plain.norm() < 0.035


@needs_c
def test_what_is_put_on_a_model_later_is_not_ignored() -> None:
    """Guards: an adapter on a linear that the decoder goes past."""
    model = quantized()
    prepare_for_cpu(model, backend="c", head="float")
    before = logits(model)

    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.inner(x)

    attention = model.blocks[1].attention
    attention.o_proj = Doubled(attention.o_proj)
    assert (logits(model) - before).abs().max() > 0.1


@needs_c
def test_two_sequences_gradients_and_a_full_cache() -> None:
    """Guards: the first sequence's keys for all of them; a store behind the cache's end."""
    model = quantized()
    prepare_for_cpu(model, backend="c", head="float")
    assert model.decoder is not None
    cache = KVCache(model.config, 2)
    with torch.inference_mode():
        model.hidden_states(torch.tensor([IDS[:5], IDS[5:10]]), cache)
        both = model.hidden_states(torch.tensor([[7], [8]]), cache)
        alone = KVCache(model.config, 1)
        model.hidden_states(torch.tensor([IDS[5:10]]), alone)
        one = model.hidden_states(torch.tensor([[8]]), alone)
    torch.testing.assert_close(both[1:], one, atol=TOLERANCE["cpu_decoder_rounded_apart"], rtol=0)
    assert not model.decoder.takes(torch.zeros(1, 1, 128), KVCache(model.config, 1))  # gradients are on
    steps = list(generate(model, IDS, SamplingConfig(max_tokens=100, seed=0, temperature=0)))
    assert len(steps) == CONFIG["max_seq_len"] - len(IDS) + 1
    assert steps[-1].finish_reason == "length"


@needs_c
def test_damaged_weights_are_seen() -> None:
    """Guards: a NaN that softmax or rounding hides from the check of the logits."""
    model = quantized()
    model.blocks[0].attention_norm.weight[3] = torch.nan
    prepare_for_cpu(model, backend="c")
    with pytest.raises(FloatingPointError):
        list(generate(model, [1, 2], SamplingConfig(max_tokens=3, seed=0, temperature=0)))
    model = quantized()
    prepare_for_cpu(model, backend="c")
    cache = KVCache(model.config, 1)
    next_logits(model, torch.tensor([[1, 2]]), cache)
    cache.keys[1, 0, 0] = torch.nan
    assert bool(next_logits(model, torch.tensor([[3]]), cache).isnan().all())


def test_refusals() -> None:
    """Guards: a typo, a float model and a head that the backend has not, each taken silently."""
    with pytest.raises(ValueError, match="no packed linears"):
        prepare_for_cpu(Transformer(ModelConfig(**CONFIG)))
    with pytest.raises(ValueError, match="packed_head: got 'int2'; choose one of float, int8, int4"):
        prepare_for_cpu(quantized(), head="int2")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="int8 needs int4_backend: c, got reference; write packed_head: float"
    ):
        prepare_for_cpu(quantized(), backend="reference", head="int8")


def test_the_runtime_form_is_never_saved() -> None:
    """Guards: a checkpoint that silently lacks its linears: there is no tensor of theirs to write."""
    model = quantized()
    names = set(model_tensors(model))
    prepare_for_cpu(model, backend="reference", head="float")
    gone = names - set(model_tensors(model))
    linears = [m for m in model.modules() if isinstance(m, RuntimeLinear)]
    assert len(gone) == 2 * len(linears) == 2 * 7 * CONFIG["n_layers"]
