"""gpt/dataset/shard_file.py: token files that cannot be damaged unnoticed."""

import random
from pathlib import Path

import numpy as np
import pytest

from gpt.dataset.shard_file import HEADER_BYTES, check_tokenizer, open_shard, write_shard

FINGERPRINT = "0123456789abcdef"


def make(tmp_path: Path, n_vocab: int = 300) -> Path:
    path = tmp_path / "train.bin"
    write_shard(path, [[1, 2], [], [3]], n_vocab=n_vocab, end_of_text=9, fingerprint=FINGERPRINT)
    return path


@pytest.mark.parametrize(("n_vocab", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_layout_by_hand(tmp_path: Path, n_vocab: int, width: int) -> None:
    """Guards: the wrong width for the vocabulary, a missing end-of-text, wrong document starts."""
    shard = open_shard(make(tmp_path, n_vocab))
    assert shard.tokens.tolist() == [1, 2, 9, 9, 3, 9]
    assert shard.document_starts.tolist() == [0, 3, 4]
    assert shard.tokens.dtype == np.dtype(f"<u{width}")
    assert shard.path.stat().st_size == HEADER_BYTES + 6 * width


def test_any_flipped_byte_is_refused_by_name(tmp_path: Path) -> None:
    """Guards: training on damaged tokens. Every byte of both files in turn."""
    path = make(tmp_path)
    rng = random.Random(0)
    for file in (path, path.with_suffix(".idx")):
        original = file.read_bytes()
        for i in range(len(original)):
            damaged = bytearray(original)
            damaged[i] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"train\."):  # the fingerprint's bytes fail the check
                check_tokenizer(open_shard(path), FINGERPRINT)
        file.write_bytes(original[:-1])
        with pytest.raises(ValueError, match=r"train\."):
            open_shard(path)
        file.write_bytes(original)


def test_wrong_tokenizer_is_refused(tmp_path: Path) -> None:
    """Guards: ids of one vocabulary read with another."""
    shard = open_shard(make(tmp_path))
    check_tokenizer(shard, FINGERPRINT)
    with pytest.raises(ValueError, match="made with tokenizer 0123456789abcdef, not ffff"):
        check_tokenizer(shard, "ffff")


def test_missing_shard_says_what_to_type(tmp_path: Path) -> None:
    """Guards: a FileNotFoundError without a remedy."""
    with pytest.raises(ValueError, match="run `dvc repro shard` first"):
        open_shard(tmp_path / "train.bin")
