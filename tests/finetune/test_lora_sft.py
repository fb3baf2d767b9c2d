"""gpt/finetune: the counted objective, QLoRA, adapters kept apart, resume, losses by source."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gpt.adapters.lora import lora_layers
from gpt.finetune.config import FinetuneConfig, SftConfig
from gpt.finetune.counted import counted_next_token, counted_validation, finetuning_objective
from gpt.finetune.lora_sft import FinetuneResult, finetune_lora
from gpt.finetune.source_loss import source_losses
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.config import HeadLoss
from gpt.train.objective import next_token
from gpt.train.validate import fixed_validation
from tests.adapters.adapted import make
from tests.tolerances import TOLERANCE
from tests.train.test_loop import CONFIG, Sink

CPU = torch.device("cpu")
RECORDS = [
    {
        "kind": "chat",
        "source": "dialogs",
        "messages": [
            {"role": "user", "content": "UPI fail"},
            {"role": "assistant", "content": "refund aayega"},
        ],
    },
    {"kind": "payment_log", "source": "logs", "text": "UPI payment fail"},
]
END = 0


def logs(folder: Path) -> Path:
    for split in ("train", "val"):
        text = "".join(json.dumps(record) + "\n" for record in RECORDS * 8)
        (folder / f"{split}.jsonl").write_text(text)
    return folder


def config(**changes: object) -> FinetuneConfig:
    whole = FinetuneConfig(
        base="models/pretrain/checkpoint",
        base_precision="fp32",
        merge=True,
        rank_stabilized=False,
        lora_rank=4,
        lora_alpha=8.0,
        lora_dropout=0.25,
        targets=("q_proj", "v_proj", "up_proj", "down_proj"),
        data=sft_config(),
        train=dataclasses.replace(CONFIG, steps=6, eval_every=2),
    )
    return dataclasses.replace(whole, **changes)


def sft_config() -> SftConfig:
    """The dials of the data, whatever others there are at their smallest."""
    values = {"learn_payment_logs": True, "max_records": 0}
    others = {f.name: 0.0 for f in dataclasses.fields(SftConfig) if f.name not in values}
    return SftConfig(**values, **others)


def run(
    tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig, wanted: FinetuneConfig, name: str = "r"
) -> tuple[FinetuneResult, Sink]:
    sink = Sink()
    result = finetune_lora(
        make(modern), tokenizer, logs(tmp_path), wanted, sink=sink, device=CPU, resume_dir=tmp_path / name
    )
    return result, sink


class Fixed:
    """Two batches of one size, with most targets masked."""

    def batch(self, cursor: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(cursor)
        ids = torch.randint(320, (count, 16), generator=generator)
        targets = torch.randint(320, (count, 16), generator=generator)
        keep = torch.rand(count, 16, generator=generator) < 0.3
        return ids, targets.where(keep, torch.tensor(IGNORE))


@pytest.mark.parametrize("end_of_text", [None, END])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("head_loss", ["whole", "chunked"])
def test_counted_equals_plain(
    modern: ModelConfig, end_of_text: int | None, softcap: float, head_loss: HeadLoss
) -> None:
    """Guards: a head asked at the wrong rows, a mean over all positions, a softcap left out: loss and
    gradients of every parameter against the objective of pretraining."""
    model = make(dataclasses.replace(modern, logit_softcap=softcap))
    batch = Fixed().batch(0, 4)
    losses, gradients = [], []
    for objective in (next_token, partial(counted_next_token, head_loss=head_loss)):
        loss, metrics = objective(model, batch, end_of_text)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
        losses.append(metrics["loss"])
    assert abs(losses[0] - losses[1]) <= TOLERANCE["chunked_vs_whole_loss"]
    for plain, ours in zip(*gradients, strict=True):
        assert (plain - ours).abs().max() <= 1e-5 * max(1.0, float(plain.abs().max()))
    model.eval()
    plain_validation = fixed_validation(Fixed(), 2, 4, CPU, torch.float32, end_of_text)(model)
    ours_validation = counted_validation(Fixed(), 2, 4, CPU, torch.float32, end_of_text, head_loss)(model)
    assert abs(plain_validation - ours_validation) <= TOLERANCE["chunked_vs_whole_loss"]


@pytest.mark.parametrize("head_loss", ["whole", "chunked"])
def test_the_head_sees_counted_rows_alone(
    modern: ModelConfig, monkeypatch: pytest.MonkeyPatch, head_loss: HeadLoss
) -> None:
    """Guards: the saving itself: 49,152 logits for a position that learns nothing."""
    import gpt.finetune.counted as counted

    rows = []
    owner, name = (counted, "chunked_cross_entropy") if head_loss == "chunked" else (F, "cross_entropy")
    whole = getattr(owner, name)

    def spy(scored: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        rows.append(len(scored))
        return whole(scored, *args, **kwargs)

    monkeypatch.setattr(owner, name, spy)
    batch = Fixed().batch(0, 4)
    finetuning_objective(dataclasses.replace(CONFIG, head_loss=head_loss), END)(make(modern), batch)
    assert rows == [int((batch[1] != IGNORE).sum())]
    assert rows[0] < batch[1].numel() / 2


def test_nothing_to_learn_is_said(modern: ModelConfig) -> None:
    """Guards: a loss of nan that is trained on."""
    ids = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="every target of the batch is masked"):
        counted_next_token(make(modern), (ids, torch.full_like(ids, IGNORE)))


def test_a_compiled_run_takes_the_plain_objective(modern: ModelConfig) -> None:
    """Guards: hidden states asked for around torch.compile, so that the dial does nothing."""
    objective = finetuning_objective(dataclasses.replace(CONFIG, compile=True), END)
    assert getattr(objective, "func", None) is next_token


def test_qlora_learns_and_merges(tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: a merged model that is not the one that was validated, a packed loss that is the plain
    one's."""
    result, sink = run(tmp_path, tokenizer, modern, config(base_precision="nf4", lora_dropout=0.0))
    assert result.packed_loss != result.base_loss
    assert result.train.val_loss < result.packed_loss
    assert set(result.model.state_dict()) == set(Transformer(modern).state_dict())
    assert result.metrics()["packed_base_logs_loss"] == round(result.packed_loss, 4)
    assert {"trainable_parameters": result.trainable, "parameters": result.total} in [
        row for _, row in sink.rows
    ]


def test_kept_apart_is_what_was_trained(tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: merge: false that merges all the same, or other weights than merge: true."""
    apart, _ = run(tmp_path, tokenizer, modern, config(merge=False), "apart")
    merged, _ = run(tmp_path, tokenizer, modern, config(), "merged")
    assert list(lora_layers(apart.model))
    assert not list(lora_layers(merged.model))
    ids = torch.arange(12)[None]
    difference = (apart.model.eval()(ids) - merged.model.eval()(ids)).abs().max()
    assert difference <= TOLERANCE["lora_merged_vs_unmerged"]


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_resume_is_bit_exact(
    tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig, precision: str
) -> None:
    """Guards: adapters, moments or dropout that differ after a stop. Frozen weights are in no resume state,
    so what is stopped after 3 of 6 steps and begun again by a new process must end in the same adapter."""
    base = config(base_precision=precision)
    train = dataclasses.replace(base.train, checkpoint_every=3)
    base = dataclasses.replace(base, train=train)
    whole, _ = run(tmp_path, tokenizer, modern, base, "whole")
    budget = dataclasses.replace(train, max_minutes=1e-9)
    steps = []
    for limit in (budget, train):
        part, _ = run(tmp_path, tokenizer, modern, dataclasses.replace(base, train=limit), "parts")
        steps.append(part.train.steps)
    assert steps == [1, 6], "the first part was to end early"
    assert part.adapter.keys() == whole.adapter.keys()
    for name, tensor in whole.adapter.items():
        assert torch.equal(part.adapter[name], tensor), name


def test_losses_by_source(tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: one source's loss under another's name; payment logs that the dial leaves out. Each is the
    loss of a file with that source alone, by the ordinary validation."""
    from gpt.finetune.sft import encode_record
    from gpt.model.loss import mean_loss

    model = make(modern)
    train = dataclasses.replace(CONFIG, seq_len=31, document_mask=True)
    wanted = config(train=train)
    losses = source_losses(model, tokenizer, logs(tmp_path) / "val.jsonl", wanted, CPU)
    assert list(losses) == ["dialogs", "logs"]
    for record in RECORDS:
        ids, learned = encode_record(tokenizer, record)
        row = torch.tensor([ids])
        targets = row[:, 1:].where(torch.tensor([learned[1:]]), torch.tensor(IGNORE))
        with torch.no_grad():
            expected = float(mean_loss(model(row[:, :-1]), targets))
        assert losses[record["source"]] == pytest.approx(expected, abs=1e-4)
    assert losses["dialogs"] != losses["logs"]
