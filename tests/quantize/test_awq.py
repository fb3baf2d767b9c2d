"""AWQ: what is folded leaves the model as it was, and what is scaled is protected."""

from typing import Any

import pytest
import torch

from gpt.quantize.awq import clipped_scales, input_scales, output_error, search_scales
from gpt.quantize.awq_model import awq_model
from gpt.quantize.fold import fold_scales, takes_scales
from gpt.quantize.grid import group_scales, round_trip
from gpt.quantize.layers import input_groups, quantizable
from gpt.quantize.methods import quantize_model
from gpt.quantize.quantized_linear import QuantizedLinear
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, tiny_model, tiny_token_ids
from tests.tolerances import TOLERANCE

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"n_kv_heads": 2},
    "grouped values": {"n_kv_heads": 1, "qk_norm": True},
    "gpt2": {"n_kv_heads": 2, "bias": True, "norm": "layernorm", "activation": "gelu", "position": "learned"},
    "relu2": {"activation": "relu2", "n_kv_heads": 2, "bias": True},
    "shift and value residual": {"token_shift": True, "value_residual": True, "n_kv_heads": 2},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_folding_leaves_the_float_model(kind: str) -> None:
    """Scales of 0.1 to 10 at every place that takes them: the same logits to rounding.

    Guards a norm's or projection's bias that keeps its size, squared ReLU scaled once, and a fold that only
    looks linear.
    """
    model = tiny_model(**ARCHITECTURES[kind])
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        want = model(tiny_token_ids())
        g, folded = torch.Generator().manual_seed(1), 0
        for block in range(2):
            for names in input_groups(model, block):
                if takes_scales(model.config, names[0]):
                    n = model.get_submodule(names[0]).in_features
                    fold_scales(model, names, 10 ** (2 * torch.rand(n, generator=g) - 1))
                    folded += 1
        got = model(tiny_token_ids())
    assert folded == {"llama": 8, "grouped values": 6, "gpt2": 6, "relu2": 8}.get(kind, 6)
    assert float((got - want).norm() / want.norm()) < TOLERANCE["logits_after_folding"]


def test_what_takes_no_scales() -> None:
    """By hand: shared values, mixed values, GELU. Guards one scale for a channel that feeds several."""
    o_proj, down = "blocks.1.attention.o_proj", "blocks.1.feed_forward.down_proj"
    assert takes_scales(tiny_model(n_kv_heads=2).config, o_proj)
    assert not takes_scales(tiny_model(n_kv_heads=1).config, o_proj)
    assert not takes_scales(tiny_model(n_kv_heads=2, value_residual=True).config, o_proj)
    assert takes_scales(tiny_model().config, down)
    assert not takes_scales(tiny_model(activation="gelu").config, down)
    with pytest.raises(ValueError, match=r"architecture.norm_gain: false leaves awq no place"):
        awq_model(tiny_model(norm_gain=False), tiny_token_ids(), QUANTIZE_CONFIG)


def outlier_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a weight (24, 64), and moment and mean |x| of inputs of which one channel is 50 times larger."""
    g = torch.Generator().manual_seed(2)
    weight, x = torch.randn(24, 64, generator=g), torch.randn(512, 64, generator=g)
    x[:, 11] *= 50
    return weight, 2 * x.T @ x / len(x), x.abs().mean(dim=0)


def test_an_outlier_channel_is_protected() -> None:
    """A planted channel of 50 times the rest: the error falls below half of rounding's.

    Guards scales that divide where they should multiply, which would make it worse.
    """
    weight, moment, magnitude = outlier_case()
    scales, ratio = search_scales([weight], moment, magnitude, 32)
    nearest = round_trip(weight, group_scales(weight, 32, "absmax"))
    scaled = weight * scales
    protected = round_trip(scaled, group_scales(scaled, 32, "absmax")) / scales
    assert ratio > 0
    assert output_error(weight, protected, moment) < 0.5 * output_error(weight, nearest, moment)


def test_scales_by_hand() -> None:
    """mean |x| 16 and 1 at ratio 0.5: 4 and 1, over sqrt(4 * 1): 2 and 0.5. At ratio 0 nothing is scaled."""
    assert input_scales(torch.tensor([16.0, 1.0]), 0.5).tolist() == pytest.approx([2.0, 0.5])
    assert input_scales(torch.tensor([16.0, 1.0]), 0.0).tolist() == [1.0, 1.0]


def test_clipping_never_costs_its_group() -> None:
    """Each group's own output error is at most that of absmax; guards another group's block of the moment."""
    weight, moment, _ = outlier_case()
    clipped = round_trip(weight, clipped_scales(weight, moment, 16))
    plain = round_trip(weight, group_scales(weight, 16, "absmax"))
    for group in range(4):
        part = slice(16 * group, 16 * group + 16)
        block = moment[part, part]
        error = [output_error(weight[:, part], q[:, part], block) for q in (clipped, plain)]
        assert error[0] <= error[1]
    assert not torch.equal(clipped, plain)


def test_the_whole_model_is_packed_and_better_than_rounding() -> None:
    """Every linear on the int4 layout, the summed error below rounding's, twice the same bytes."""
    first, second = tiny_model(n_kv_heads=2), tiny_model(n_kv_heads=2)
    reports = awq_model(first, tiny_token_ids(), QUANTIZE_CONFIG)
    awq_model(second, tiny_token_ids(), QUANTIZE_CONFIG)
    assert [report.name for report in reports] == quantizable(first)
    assert all(isinstance(first.get_submodule(name), QuantizedLinear) for name in quantizable(first))
    assert sum(r.error for r in reports) < sum(r.nearest_error for r in reports)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_hopeless_inputs_are_refused() -> None:
    """Guards a NaN that picks ratio -1, or none, in silence."""
    with pytest.raises(ValueError, match=r"awq: no output error is finite; raise quantize.n_calibration"):
        search_scales([torch.ones(2, 4)], torch.full((4, 4), float("nan")), torch.ones(4), 2)


def test_a_mixture_is_refused() -> None:
    """Guards half a model that is folded before the experts are met."""
    with pytest.raises(ValueError, match=r"n_experts: the parent is a mixture of 4"):
        quantize_model(tiny_model(n_experts=4), tiny_token_ids(), QUANTIZE_CONFIG)
