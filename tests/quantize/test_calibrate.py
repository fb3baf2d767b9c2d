"""GPTQ over a whole model."""

import dataclasses

import numpy as np
import pytest
import torch

from gpt.model.transformer import Transformer
from gpt.quantize.calibrate import draw_sequences
from gpt.quantize.gptq import Hessian, gptq
from gpt.quantize.layers import quantizable
from gpt.quantize.methods import quantize_model, quantize_nearest
from gpt.quantize.quantized_linear import QuantizedLinear
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, tiny_model, tiny_token_ids


def test_each_layer_sees_quantized_inputs() -> None:
    """The finished model's own inputs to a late layer must give that layer's codes again.

    Guards calibration on the float model's activations, whose errors nobody compensates.
    """
    parent, model = tiny_model(), tiny_model()
    quantize_model(model, tiny_token_ids(), QUANTIZE_CONFIG)
    name = "blocks.1.feed_forward.down_proj"
    hessian = Hessian(64)
    late = model.get_submodule(name)
    late.register_forward_pre_hook(lambda module, inputs: hessian.add(inputs[0]))
    with torch.no_grad():
        for batch in tiny_token_ids().split(8):
            model(batch)
    weight = parent.get_submodule(name).weight.detach()
    expected = gptq(weight, hessian.matrix, group_size=16, scale="mse", act_order=True, damping=0.01)
    again = QuantizedLinear.from_linear(parent.get_submodule(name), expected.codes, expected.scales)
    assert torch.equal(late.packed, again.packed)


def test_it_beats_nearest_in_every_layer_and_repeats() -> None:
    """Output error per layer against rounding; the same seed gives the same bytes."""
    first, second = tiny_model(), tiny_model()
    reports = quantize_model(first, tiny_token_ids(), QUANTIZE_CONFIG)
    quantize_model(second, tiny_token_ids(), QUANTIZE_CONFIG)
    assert [report.name for report in reports] == quantizable(first)
    assert all(report.error < report.nearest_error for report in reports)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_only_projections_are_quantized() -> None:
    """By hand: 2 blocks of 7 linears. Guards a quantized embedding, norm or output projection."""
    model = tiny_model(tie_embeddings=False)
    quantize_nearest(model, QUANTIZE_CONFIG)
    names = [n for n, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(names) == 14
    assert isinstance(model.lm_head, torch.nn.Linear)
    assert model.embed.weight.dtype == torch.float32


def test_gpt2_mode_keeps_biases() -> None:
    """Learned positions, LayerNorm, GELU, biases: the packed model stays close to its parent."""
    changes = {"bias": True, "norm": "layernorm", "activation": "gelu", "position": "learned"}
    parent, model = tiny_model(**changes), tiny_model(**changes)
    for m in (parent, model):
        for name, parameter in m.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.constant_(parameter, 0.5)
    quantize_model(model, tiny_token_ids(), QUANTIZE_CONFIG)
    with torch.no_grad():
        want, got = parent(tiny_token_ids()), model(tiny_token_ids())
    assert (want - got).norm() < 0.2 * want.norm()


def test_refusals_name_the_dial() -> None:
    """A mixture, a group size that does not divide, weights that are not finite."""
    with pytest.raises(ValueError, match=r"n_experts: the parent is a mixture of 4"):
        quantize_model(tiny_model(n_experts=4), tiny_token_ids(), QUANTIZE_CONFIG)
    odd = dataclasses.replace(QUANTIZE_CONFIG, group_size=24)
    with pytest.raises(ValueError, match=r"quantize.group_size: 24 does not divide the 32 .* 16, 32"):
        quantize_model(tiny_model(), tiny_token_ids(), odd)
    broken = tiny_model()
    torch.nn.init.constant_(broken.blocks[0].attention.o_proj.weight, float("nan"))
    with pytest.raises(ValueError, match=r"blocks.0.attention.o_proj.weight: not finite"):
        quantize_model(broken, tiny_token_ids(), QUANTIZE_CONFIG)


def test_drawing_mixes_sources_and_repeats() -> None:
    """Rows are slices of their own source, as many as asked; guards a mix that ignores the counts."""
    sources = [(np.arange(0, 100, dtype=np.uint16), 3), (np.arange(1000, 1100, dtype=np.uint16), 5)]
    rows = draw_sequences(sources, 10, torch.Generator().manual_seed(0))
    assert rows.shape == (8, 10)
    assert bool((rows.diff(dim=1) == 1).all())
    assert (rows[:, 0] < 100).tolist() == [True] * 3 + [False] * 5
    assert torch.equal(rows, draw_sequences(sources, 10, torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match=r"quantize.seq_len: 101 is more than the 100 tokens"):
        draw_sequences(sources, 101, torch.Generator())


def test_config_refuses_by_name() -> None:
    """Guards dials that would fail deep inside the algorithm."""
    for key, value in (("group_size", 15), ("damping", 0.0), ("log_fraction", 1.5), ("n_test", 0)):
        with pytest.raises(ValueError, match=f"^{key}: "):
            dataclasses.replace(QUANTIZE_CONFIG, **{key: value})


def test_transformer_runs_packed_weights_through_its_cacheless_forward() -> None:
    """Packed and unpacked weights give the same logits: guards a forward that drops the scales."""
    model, dense = tiny_model(), tiny_model()
    quantize_model(model, tiny_token_ids(), QUANTIZE_CONFIG)
    for name in quantizable(model):
        dense.get_submodule(name).weight.data = model.get_submodule(name).dequantized()
    assert isinstance(model, Transformer)
    with torch.no_grad():
        torch.testing.assert_close(model(tiny_token_ids()), dense(tiny_token_ids()))
