"""gpt/dataset/shard_file.py: token files that cannot be damaged unnoticed."""

from pathlib import Path

import numpy as np
import pytest

from gpt.dataset.shard_file import HEADER_BYTES, ShardWriter, open_shard, read_header
from tests.dataset.tiny_shards import FINGERPRINT, RUN, write_tiny_shards


def make(tmp_path: Path, n_vocab: int = 300) -> Path:
    write_tiny_shards(tmp_path, {"train": [[[1, 2], [], [3]]]}, n_vocab=n_vocab)
    return tmp_path / "train-00000.bin"


@pytest.mark.parametrize(("n_vocab", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_layout_by_hand(tmp_path: Path, n_vocab: int, width: int) -> None:
    """Guards: the wrong width for the vocabulary, a missing end-of-text, wrong document starts."""
    path = make(tmp_path, n_vocab)
    shard = open_shard(path)
    assert shard.tokens.tolist() == [1, 2, 9, 9, 3, 9]
    assert shard.document_starts.tolist() == [0, 3, 4]
    assert shard.tokens.dtype == np.dtype(f"<u{width}")
    raw = path.read_bytes()
    assert len(raw) == HEADER_BYTES + 6 * width
    assert raw[HEADER_BYTES:] == np.array([1, 2, 9, 9, 3, 9], dtype=f"<u{width}").tobytes()
    assert path.with_suffix(".idx").read_bytes() == np.array([0, 3, 4], dtype="<i8").tobytes()


def test_the_header_says_what_it_was_told(tmp_path: Path) -> None:
    """Guards: a field written in one place and read in another."""
    header = open_shard(make(tmp_path)).header
    said = (header.width, header.ordinal, header.n_vocab, header.end_of_text, header.n_tokens)
    assert said == (2, 0, 300, 9, 6)
    assert (header.n_documents, header.split, header.run) == (3, "train", RUN)
    assert header.tokenizer_fingerprint == FINGERPRINT


def test_tokens_stay_on_disk(tmp_path: Path) -> None:
    """Guards: a shard read into memory when it is opened."""
    shard = open_shard(make(tmp_path))
    assert isinstance(shard.tokens.base, np.memmap)
    assert isinstance(shard.document_starts.base, np.memmap)


def test_cut_and_lengthened_files_are_refused_by_name(tmp_path: Path) -> None:
    """Guards: a copy that broke off, read as a shorter corpus. Every length of both files."""
    path = make(tmp_path)
    for file in (path, path.with_suffix(".idx")):
        original = file.read_bytes()
        for raw in (*(original[:n] for n in range(len(original))), original + b"\0"):
            file.write_bytes(raw)
            with pytest.raises(
                ValueError, match=rf"{file.name}: (not a rawgpt|truncated).*dvc repro -f shard"
            ):
                open_shard(path)
        file.write_bytes(original)


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    """Guards: half a shard under a whole one's name, and litter beside it."""

    def fail() -> None:
        with ShardWriter(
            tmp_path, split="val", ordinal=0, n_vocab=300, end_of_text=9, tokenizer_fingerprint="f", run="r"
        ) as writer:
            writer.add(np.array([1, 2]))
            raise ValueError("the document after this one")

    with pytest.raises(ValueError, match="the document after this one"):
        fail()
    assert not list(tmp_path.iterdir())


def test_missing_shard_says_what_to_type(tmp_path: Path) -> None:
    """Guards: a FileNotFoundError without a remedy."""
    with pytest.raises(ValueError, match="run `dvc repro shard` first"):
        read_header(tmp_path / "train-00000.bin")
    path = make(tmp_path)
    path.with_suffix(".idx").unlink()
    with pytest.raises(ValueError, match=r"train-00000.idx: no such index"):
        open_shard(path)
