"""gpt/tokenizer/gpt2_files.py: GPT-2's own ids, out of the files that it was published with."""

import json
import os
from pathlib import Path

import pytest

from gpt.tokenizer.byte_level import byte_symbols, pad_vocabulary
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.gpt2_files import find_gpt2_files, gpt2_tokenizer, with_chat_tokens
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer, save_tokenizer


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    """GPT-2's tokenizer, where its files are."""
    folder = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent")) / "gpt2_bpe"
    if not folder.is_dir():
        pytest.skip("RAWGPT_DATA_MIRROR names no folder with gpt2_bpe/encoder.json and vocab.bpe")
    return gpt2_tokenizer(folder / "encoder.json", folder / "vocab.bpe")


def test_published_ids(gpt2: Tokenizer) -> None:
    """Guards: another vocabulary, or bytes in another order. The ids are those that GPT-2's users know."""
    assert gpt2.n_vocab == 50257
    assert gpt2.end_of_text == 50256
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("!") == [0]
    assert gpt2.encode("\n") == [198]
    assert gpt2.decode([15496, 995]) == "Hello world"


def test_chat_tokens_stand_behind(gpt2: Tokenizer, tmp_path: Path) -> None:
    """Guards: a chat token that takes a word's id; a vocabulary that changes on its way through the file."""
    chat = pad_vocabulary(with_chat_tokens(gpt2), 50304, "tokenize.vocab_size")
    assert chat.special_tokens["<|endoftext|>"] == 50256
    assert chat.special_tokens["<|system|>"] == 50257
    assert chat.special_tokens["<|end|>"] == 50260
    assert chat.n_vocab == 50304
    user, assistant, end = (chat.special_tokens[name] for name in ("<|user|>", "<|assistant|>", "<|end|>"))
    expected = [user, 15496, 995, end, assistant]
    assert encode_prompt(chat, [{"role": "user", "content": "Hello world"}]) == expected
    save_tokenizer(tmp_path, chat)
    assert load_tokenizer(tmp_path) == chat


def test_chat_tokens_that_are_there_stay(tokenizer: Tokenizer) -> None:
    """Guards: a second <|end|>."""
    assert with_chat_tokens(tokenizer) == tokenizer


def test_absent_sets_name_the_dial(tmp_path: Path) -> None:
    """Guards: FileNotFoundError for a set that fetch was not asked for."""
    (tmp_path / "extra/gpt2_bpe_encoder").mkdir(parents=True)
    (tmp_path / "extra/gpt2_bpe_encoder/encoder.json").write_text("{}")
    with pytest.raises(ValueError, match=r"gpt2 needs the set gpt2_bpe_vocab; add it to fetch\.extras"):
        find_gpt2_files(tmp_path / "extra")


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("[", "", r"encoder\.json or vocab\.bpe is damaged"),
        ("[]", "", r"encoder\.json: a mapping"),
        (json.dumps(byte_symbols() | {"<|endoftext|>": 256}), "t h e\n", r"vocab\.bpe: the merge .* no pair"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, vocabulary: str, merges: str, message: str) -> None:
    """Guards: a tokenizer with half its merges."""
    (tmp_path / "encoder.json").write_text(vocabulary)
    (tmp_path / "vocab.bpe").write_text(merges)
    with pytest.raises(ValueError, match=message):
        gpt2_tokenizer(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
