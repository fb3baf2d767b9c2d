"""gpt/finetune: log records become prompt-masked sequences; LoRA lowers their loss."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.dataset.packing import pack_sequences
from gpt.finetune.config import FinetuneConfig, SftConfig
from gpt.finetune.lora_sft import finetune_lora
from gpt.finetune.sft import encode_record, read_records, sft_batches
from gpt.model.config import ModelConfig
from gpt.model.documents import split_documents
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.train.test_loop import CONFIG, Sink

CHAT = {
    "id": "1",
    "kind": "chat",
    "messages": [{"role": "user", "content": "UPI fail"}, {"role": "assistant", "content": "refund aayega"}],
}
LOG = {"id": "2", "kind": "payment_log", "text": "UPI payment fail"}


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def test_records_by_hand(tokenizer: Tokenizer) -> None:
    """Guards: a payment log whose first word is never learned, a chat whose question is."""
    ids, learned = encode_record(tokenizer, LOG)
    assert ids == [tokenizer.end_of_text, *tokenizer.encode(LOG["text"]), tokenizer.end_of_text]
    assert learned == [False] + [True] * (len(ids) - 1)
    ids, learned = encode_record(tokenizer, CHAT)
    said = tokenizer.decode([i for i, is_learned in zip(ids, learned, strict=True) if is_learned])
    assert said == "refund aayega<|end|>"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    """Guards: one broken line found an hour into training."""
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(LOG) + "\n{broken\n")
    with pytest.raises(ValueError, match=r"train\.jsonl:2: not a log record"):
        read_records(path)
    with pytest.raises(ValueError, match=r"train\.jsonl:1: not a log record"):
        read_records(write(path, {"kind": "other"}))
    path.write_text("")
    with pytest.raises(ValueError, match="no records"):
        read_records(path)


def test_dials_choose_what_is_learned(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: payment logs learned although the dial says no."""
    path = write(tmp_path / "train.jsonl", CHAT, LOG, CHAT)
    chats = SftConfig(learn_payment_logs=False, max_records=0, replay_fraction=0.0)
    _, counts = sft_batches(path, tokenizer, chats, seq_len=31, seed=0)
    assert counts["records"] == 2
    both = SftConfig(learn_payment_logs=True, max_records=2, replay_fraction=0.0)
    _, counts = sft_batches(path, tokenizer, both, seq_len=31, seed=0)
    assert counts["records"] == 2
    assert counts["learned_tokens"] > 0


def test_a_few_records_are_of_every_source(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: the head of a file that lies source by source, which drops all payment logs and own logs."""
    path = write(tmp_path / "train.jsonl", *[CHAT] * 30, *[LOG] * 10)
    learned = []
    for few, of in ((4, (CHAT, CHAT, CHAT, LOG)), (0, (CHAT,) * 30 + (LOG,) * 10)):
        config = SftConfig(learn_payment_logs=True, max_records=few, replay_fraction=0.0)
        _, counts = sft_batches(path, tokenizer, config, seq_len=31, seed=0)
        learned.append((counts["learned_tokens"], sum(sum(encode_record(tokenizer, r)[1]) for r in of)))
    assert all(found == by_hand for found, by_hand in learned)


def test_the_cut_and_the_dropped_are_told_apart(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: a chat that teaches nothing counted as one that only lost its end."""
    long = {**CHAT, "messages": [{"role": "user", "content": "refund " * 40}, *CHAT["messages"][-1:]]}
    endless = {**LOG, "text": "paid " * 60}
    path = write(tmp_path / "train.jsonl", long, endless, LOG)
    config = SftConfig(learn_payment_logs=True, max_records=0, replay_fraction=0.0)
    _, counts = sft_batches(path, tokenizer, config, seq_len=31, seed=0)
    assert (counts["records"], counts["cut"], counts["dropped"]) == (3, 1, 1)


def test_replay_is_a_share_of_the_learned_tokens(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: replay in validation, a passage that is not learned whole, a share of the records instead of
    the tokens, a pool too small that passes for enough. Each sample adds its own last passage at most."""
    logs = write(tmp_path / "train.jsonl", *[CHAT, LOG] * 20)
    passage = {"id": "p", "kind": "text", "text": "the refund of the king"}
    replay = write(tmp_path / "replay.jsonl", *[passage] * 200)
    config = SftConfig(learn_payment_logs=True, max_records=0, replay_fraction=0.25)
    _, plain = sft_batches(logs, tokenizer, config, seq_len=31, seed=0)
    assert plain["replay_tokens"] == 0
    _, mixed = sft_batches(logs, tokenizer, config, seq_len=31, seed=0, replay=replay)
    ids, learned = encode_record(tokenizer, passage)
    assert tokenizer.decode(ids[1:-1]) == passage["text"]
    assert learned == [False] + [True] * (len(ids) - 1)
    assert mixed["learned_tokens"] == plain["learned_tokens"] + mixed["replay_tokens"]
    assert 0 <= mixed["replay_tokens"] - plain["learned_tokens"] / 3 < sum(learned)
    replay.write_text("")
    with pytest.raises(ValueError, match=r"holds 0; raise logs\.n_replay"):
        sft_batches(logs, tokenizer, config, seq_len=31, seed=0, replay=replay)
    write(replay, passage)
    with pytest.raises(ValueError, match=r"replay_fraction: .*raise logs\.n_replay"):
        sft_batches(logs, tokenizer, config, seq_len=31, seed=0, replay=replay)


def test_canaries_are_never_read(tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: planted values in the training path. Beside the logs lies a canaries.jsonl that no reader of
    records could pass, and the tuned weights are those of a folder without it."""
    config = FinetuneConfig(
        base="models/pretrain/checkpoint",
        base_precision="fp32",
        merge=True,
        lora_rank=2,
        lora_alpha=4.0,
        rank_stabilized=False,
        lora_dropout=0.0,
        targets=("q_proj",),
        data=SftConfig(learn_payment_logs=True, max_records=0, replay_fraction=0.1),
        train=dataclasses.replace(CONFIG, steps=2, seq_len=31),
    )
    adapters = []
    for name in ("without", "with"):
        folder = tmp_path / name
        folder.mkdir()
        for split in ("train", "val"):
            write(folder / f"{split}.jsonl", *[CHAT, LOG] * 8)
        write(folder / "replay.jsonl", *[LOG] * 20)
        if name == "with":
            (folder / "canaries.jsonl").write_text("no record: 98765 43210\n")
        model = Transformer(modern)
        init_weights(model, 0, init_std=0.1)
        resume = tmp_path / f"resume-{name}"
        result = finetune_lora(
            model, tokenizer, folder, config, sink=Sink(), device=torch.device("cpu"), resume_dir=resume
        )
        adapters.append(result.adapter)
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())


def test_finetuning_lowers_the_loss_and_merges(
    tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig
) -> None:
    """Guards: a merged model that is not the one that was validated."""
    for split in ("train", "val"):
        write(tmp_path / f"{split}.jsonl", *[CHAT, LOG] * 8)
    config = FinetuneConfig(
        base="models/pretrain/checkpoint",
        base_precision="fp32",
        merge=True,
        rank_stabilized=False,
        lora_rank=4,
        lora_alpha=8.0,
        lora_dropout=0.0,
        targets=("q_proj", "v_proj", "up_proj", "down_proj"),
        data=SftConfig(learn_payment_logs=True, max_records=0, replay_fraction=0.0),
        train=CONFIG,
    )
    model = Transformer(modern)
    init_weights(model, 0, init_std=0.1)
    base = {n: t.clone() for n, t in model.state_dict().items()}
    result = finetune_lora(
        model,
        tokenizer,
        tmp_path,
        config,
        sink=Sink(),
        device=torch.device("cpu"),
        resume_dir=tmp_path / "resume",
    )
    assert result.train.val_loss < result.base_loss
    assert set(result.model.state_dict()) == set(base)
    a, b = (result.adapter[f"blocks.0.attention.q_proj.lora_{x}"] for x in "ab")
    merged = base["blocks.0.attention.q_proj.weight"] + 2.0 * b @ a
    np.testing.assert_allclose(
        result.model.state_dict()["blocks.0.attention.q_proj.weight"], merged, atol=1e-6
    )
    assert torch.equal(result.model.state_dict()["embed.weight"], base["embed.weight"])


def test_packed_records_are_the_mask_s_documents(tokenizer: Tokenizer) -> None:
    """Guards: a log cut off from the end-of-text that opens it, a record that sees the one before it, a
    learned token that the mask takes away. Logs begin and end with end-of-text, chats only end with it."""
    samples = [encode_record(tokenizer, record) for record in (CHAT, LOG, LOG, CHAT, LOG, CHAT, CHAT)]
    end = tokenizer.end_of_text
    length = sum(len(ids) for ids, _ in samples[:4])
    rows, learned = pack_sequences(samples, length, end)
    token_ids = torch.from_numpy(rows).long()
    targets = torch.where(torch.from_numpy(learned), token_ids, -100)[:, 1:]
    ids, left = split_documents(token_ids, torch.nn.functional.pad(targets, (0, 1), value=-100), end)
    found = [row[at == i].tolist() for row, at in zip(token_ids, ids, strict=True) for i in at.unique()]
    records = [document for document in found if set(document) != {end}]  # the others are padding
    assert sorted(records) == sorted(list(sample_ids) for sample_ids, _ in samples)
    assert torch.equal(left[:, :-1], targets), "a learned target was masked"


def test_the_mask_reaches_finetuning(tmp_path: Path, tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: finetune.train.document_mask read and not used, in training or in validation."""
    for split in ("train", "val"):
        write(tmp_path / f"{split}.jsonl", *[CHAT, LOG] * 8)
    results = []
    for mask in (False, True):
        config = FinetuneConfig(
            base="models/pretrain/checkpoint",
            base_precision="fp32",
            merge=True,
            rank_stabilized=False,
            lora_rank=4,
            lora_alpha=8.0,
            lora_dropout=0.0,
            targets=("q_proj",),
            data=SftConfig(learn_payment_logs=True, max_records=0, replay_fraction=0.0),
            train=dataclasses.replace(CONFIG, steps=2, seq_len=31, document_mask=mask),
        )
        model = Transformer(modern)
        init_weights(model, 0, init_std=0.1)
        results.append(
            finetune_lora(
                model,
                tokenizer,
                tmp_path,
                config,
                sink=Sink(),
                device=torch.device("cpu"),
                resume_dir=tmp_path / f"resume-{mask}",
            )
        )
    plain, masked = results
    assert abs(plain.base_loss - masked.base_loss) > 1e-4
    assert plain.train.history[0]["loss"] != masked.train.history[0]["loss"]
