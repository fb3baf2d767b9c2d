"""Scores of one model in several precisions."""

import math

import numpy as np
import pytest
import torch

from gpt.report.config import QuantizeReportConfig
from gpt.report.method_scores import Material, Reading, decode_times, memory_bytes, read_material, score
from tests.evaluate.tiny_models import tiny_model, tiny_tokenizer

MATERIAL = Material(
    windows=[np.arange(5), np.arange(3)],
    bytes_of=np.full(300, 2),
    items=[],
    tokenizer=tiny_tokenizer(),
    batch_tokens=64,
)


def test_rise_is_paired_by_hand() -> None:
    """Windows of 4 and 2 predicted tokens; nats 8 and 4 against 4 and 2: loss 2 against 1, rise e - 1.

    Both windows rise by 1 nat a token, so the paired error is 0; 12 nats over 12 bytes.
    Guards a rise that is the difference of perplexities, and an error that ignores the pairing.
    """
    row = score(Reading(nats=[8.0, 4.0], right=[]), Reading(nats=[4.0, 2.0], right=[]), MATERIAL)
    assert row["perplexity"] == pytest.approx(math.exp(2))
    assert row["rise"] == pytest.approx(math.e - 1)
    assert row["rise_stderr"] == pytest.approx(0)
    assert row["bits_per_byte"] == pytest.approx(1 / math.log(2))
    assert (row["windows"], row["tokens"], row["items"]) == (2, 6, 0)
    assert "hellaswag" not in row


def test_choices_are_paired_by_hand() -> None:
    """Right on 1 of 2 against 2 of 2: 0.5, change -0.5. Guards a change with the wrong sign."""
    nats = [1.0, 1.0]
    row = score(Reading(nats=nats, right=[1.0, 0.0]), Reading(nats=nats, right=[1.0, 1.0]), MATERIAL)
    assert (row["hellaswag"], row["hellaswag_change"], row["rise"]) == (0.5, -0.5, 0)


def test_a_model_reads_its_windows() -> None:
    """The nats of each window against the model's own loss; guards windows that lose a token."""
    model = tiny_model()
    reading = read_material(model, MATERIAL)
    for nats, window in zip(reading.nats, MATERIAL.windows, strict=True):
        ids = torch.tensor(window)[None]
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum")
        assert nats == pytest.approx(float(loss), rel=1e-5)


def test_memory_counts_storages_once() -> None:
    """A view of 4 bytes that holds 400 counts 400, a tied weight once. Guards nbytes of what is shown."""
    model = torch.nn.Module()
    whole = torch.zeros(100)
    model.register_buffer("part", whole[:1])
    model.register_buffer("again", whole[1:2])
    model.register_buffer("other", torch.zeros(2, dtype=torch.int8))
    model.again = whole[:1].view(1)
    assert memory_bytes(model) == 402


def test_every_model_is_timed() -> None:
    """Guards a turn that leaves a model out; no figure is asserted."""
    times = decode_times({"a": tiny_model(), "b": tiny_model()}, [1, 2, 3], 2, 2)
    assert set(times) == {"a", "b"}
    assert all(ms > 0 for ms in times.values())


def test_config_refuses_by_name() -> None:
    """Guards a method that is compared twice, and a division by no tokens."""
    good = {
        "methods": ("gptq",),
        "n_windows": 1,
        "seq_len": 8,
        "n_hellaswag": 0,
        "batch_tokens": 64,
        "prompt_tokens": 1,
        "decode_tokens": 1,
        "rounds": 1,
    }
    for change in ({"methods": ("gptq", "gptq")}, {"methods": ()}, {"n_windows": -1}, {"rounds": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(change))}: "):
            QuantizeReportConfig(**{**good, **change})
