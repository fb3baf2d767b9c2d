"""Foreign weights against transformers itself, in .venv-peers alone: `make test-peers`."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpt.corpus.registry import SourceUnavailable, fetch
from gpt.tokenizer.hugging_face import load_hugging_face_tokenizer
from tests.tolerances import TOLERANCE

pytestmark = pytest.mark.peers

TEXTS = [
    "",
    "The river rose in the night of 3 March 1891.",
    "kal UPI se ₹500 bheja, 🙏🏽 paisa   wapas\n\n\tkab? ",
    "   1 2  34   x\r\n'll we're THEY'LL",
    "नमस्ते दुनिया ½ ²",
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep transformers from asking its hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", ["gpt2", "llama, 6 heads on 2", "llama, tied", "mixtral, 2 of 4 experts"])
def test_logits_both_ways(tmp_path: Path, name: str) -> None:
    """Guards: our reading and writing agreeing with each other and with nobody else."""
    from benchmarks.logits_against_transformers import compare_random, foreign_models

    rows = compare_random(name, foreign_models()[name], tmp_path)
    control = [row for row in rows if row["file"].startswith("control")]
    compared = [row for row in rows if row not in control]
    assert len(compared) == (1 if name == "gpt2" else 2)
    for row in compared:
        assert row["max_abs_difference"] <= TOLERANCE["logits_vs_transformers"], row
    for row in control:
        assert row["max_abs_difference"] > 1e4 * TOLERANCE["logits_vs_transformers"], row


def test_our_files_leave_nothing_over(tmp_path: Path) -> None:
    """Guards: a tensor that transformers draws at random because it found no such name, and says so only
    in a warning; sharded files of theirs."""
    import torch
    import transformers

    from benchmarks.logits_against_transformers import foreign_models, randomize, read_by_us
    from gpt.checkpoint.llama_weights import save_llama

    for name, theirs in foreign_models().items():
        randomize(theirs, 1).save_pretrained(tmp_path / name, max_shard_size="100KB")
        assert len(list((tmp_path / name).glob("*.safetensors"))) > 1
        ours = read_by_us(tmp_path / name)
        if name == "gpt2":
            continue
        save_llama(tmp_path / f"{name} of ours", ours)
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / f"{name} of ours", dtype=torch.float32, output_loading_info=True
        )
        assert not any(loading.values()), (name, loading)
        assert type(model) is type(theirs)


def test_smollm2_reads_alike() -> None:
    """Guards: dequantization, q and k order, theta, eps, digits and merges of a real file."""
    from benchmarks.logits_against_transformers import compare_gguf

    try:
        path = fetch("smollm2-135m").resolve()
    except SourceUnavailable as error:
        pytest.skip(str(error))
    row = compare_gguf(path)
    assert row["max_abs_difference"] <= TOLERANCE["logits_vs_transformers_smollm2"], row
    assert row["same_token_ids"]
    assert row["same_greedy_tokens"]


def test_smollm2_splits_alike() -> None:
    """Guards: ids of hard texts and of a whole chat, against transformers' reading of the file's template.

    Its GGUF reader takes GPT-2's split whatever the file's `tokenizer.ggml.pre` says; `smollm` is llama.cpp's
    name for "each digit alone, then GPT-2's split", so that is put in front.
    """
    import transformers
    from tokenizers import pre_tokenizers

    from gpt.checkpoint.gguf import open_gguf
    from gpt.tokenizer.chat_template import encode_prompt

    try:
        path = fetch("smollm2-135m").resolve()
    except SourceUnavailable as error:
        pytest.skip(str(error))
    ours = open_gguf(path).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), theirs.backend_tokenizer.pre_tokenizer]
    )
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is my refund of ₹500?"},
        {"role": "assistant", "content": "On its way."},
        {"role": "user", "content": "Since when?"},
    ]
    expected = theirs.apply_chat_template(chat, add_generation_prompt=True)
    assert encode_prompt(ours, chat) == list(getattr(expected, "input_ids", expected))


@pytest.mark.parametrize("kind", ["gpt2", "smollm", "llama3"])
def test_tokenizer_json_splits_alike(tmp_path: Path, kind: str) -> None:
    """Guards: a tokenizer.json that `tokenizers` itself trained and wrote, read as another."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "llama3")
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )
    steps: dict[str, list[Any]] = {
        "gpt2": [],
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "llama3": [pre_tokenizers.Split(Regex(pattern), behavior="isolated")],
    }
    theirs = Tokenizer(models.BPE())
    pipeline = [*steps[kind], byte_level]
    theirs.pre_tokenizer = pre_tokenizers.Sequence(pipeline) if steps[kind] else byte_level
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken("<|endoftext|>", special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [*TEXTS, Path(__file__).read_text(encoding="utf-8").replace("<|", "< |")]  # theirs reads specials
    theirs.train_from_iterator(texts, trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    ours = load_hugging_face_tokenizer(tmp_path, "llama")
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text[:80]
