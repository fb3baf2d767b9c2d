"""gpt/dataset/shard_set.py: a folder is one corpus or refused, and its stream is the plain concatenation."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.dataset.shard_set import TokenStream, open_shards
from tests.dataset.tiny_shards import FINGERPRINT, write_tiny_shards

TRAIN = [[[1, 2], [3]], [[4, 5, 6]], [], [[7], [], [8]]]
STREAM = [1, 2, 9, 3, 9, 4, 5, 6, 9, 7, 9, 9, 8, 9]
OF_BOTH = ("train-00000.bin", "train-00000.idx", "val-00001.bin", "shards.json")


def make(folder: Path, **changes: object) -> Path:
    splits = {"train": TRAIN, "val": [[], [[1, 1]]]}
    return write_tiny_shards(folder, splits, **changes)  # type: ignore[arg-type]


def refused(folder: Path, message: str, split: str = "train", fingerprint: str | None = FINGERPRINT) -> None:
    with pytest.raises(ValueError, match=message):
        open_shards(folder, split, fingerprint)


def test_the_stream_by_hand(tmp_path: Path) -> None:
    """Guards: shards in another order, document starts that count from their own shard."""
    stream = open_shards(make(tmp_path), "train", FINGERPRINT)
    assert len(stream) == 14
    assert stream[:].tolist() == STREAM
    assert stream.document_starts.tolist() == [0, 3, 5, 9, 11, 12]
    assert stream.dtype == np.dtype("<u2")
    assert open_shards(tmp_path, "val", None)[:].tolist() == [1, 1, 9]
    listed = json.loads((tmp_path / "shards.json").read_text())
    assert [entry["file"] for entry in listed["splits"]["train"]] == [f"train-0000{i}.bin" for i in (0, 1, 3)]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStream, np.ndarray]:
    """Nine shards of random documents, and the same tokens in one array."""
    rng = random.Random(0)
    shards = [[[rng.randrange(300) for _ in range(rng.randrange(6))] for _ in range(3)] for _ in range(9)]
    folder = write_tiny_shards(tmp_path_factory.mktemp("s"), {"train": shards})
    plain = [token for shard in shards for document in shard for token in (*document, 9)]
    return open_shards(folder, "train", None), np.array(plain, dtype="<u2")


BOUND = st.none() | st.integers(-130, 130)


@settings(max_examples=300, deadline=None)
@given(start=BOUND, stop=BOUND, step=st.none() | st.integers(1, 7))
def test_slices_are_those_of_the_plain_concatenation(
    stream: tuple[TokenStream, np.ndarray], start: int | None, stop: int | None, step: int | None
) -> None:
    """Guards: a token lost or doubled at a border between shards. Reference: numpy's own slicing."""
    tokens, plain = stream
    assert np.array_equal(tokens[start:stop:step], plain[start:stop:step])
    assert tokens[start:stop:step].dtype == plain.dtype


def test_a_slice_inside_a_shard_is_no_copy(stream: tuple[TokenStream, np.ndarray]) -> None:
    """Guards: a loader that copies every window twice."""
    tokens, _ = stream
    first = tokens.shards[0].tokens
    assert np.shares_memory(tokens[1 : len(first)], first)
    assert not np.shares_memory(tokens[1 : len(first) + 1], first)
    with pytest.raises(ValueError, match="a step of -1 over a token stream"):
        tokens[::-1]


def test_every_flipped_byte_of_every_file_is_refused(tmp_path: Path) -> None:
    """Guards: training on damaged tokens. Every byte of four kinds of file in turn, a random bit each."""
    make(tmp_path)
    rng = random.Random(0)
    for name in OF_BOTH:
        file = tmp_path / name
        original = file.read_bytes()
        split = "val" if name.startswith("val") else "train"
        for i in range(len(original)):
            damaged = bytearray(original)
            damaged[i] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            stem = r"(shards|train|val)" if name == "shards.json" else Path(name).stem
            refused(tmp_path, stem, split)
        file.write_bytes(original)
    open_shards(tmp_path, "train", FINGERPRINT)


def test_cut_files_are_refused_by_name(tmp_path: Path) -> None:
    """Guards: a download that broke off."""
    make(tmp_path)
    for name in OF_BOTH:
        original = (tmp_path / name).read_bytes()
        os.truncate(tmp_path / name, len(original) - 1)
        refused(tmp_path, name, "val" if name.startswith("val") else "train")
        (tmp_path / name).write_bytes(original)


def test_missing_and_surplus_files_are_refused_by_name(tmp_path: Path) -> None:
    """Guards: a shorter corpus than the one that was listed, and one that nobody listed."""
    for name in ("train-00001.bin", "train-00003.idx", "val-00001.bin"):
        folder = make(tmp_path / name)
        (folder / name).unlink()
        refused(folder, f"{name}: missing, though shards.json lists it; run")
    folder = make(tmp_path / "surplus")
    shutil.copyfile(folder / "train-00003.bin", folder / "train-00004.bin")
    refused(folder, r"train-00004\.bin: not listed in shards\.json; remove it")
    (folder / "shards.json").unlink()
    refused(folder, r"shards\.json: no such list of shards; run `dvc repro shard` first")


@pytest.mark.parametrize("names", [("train-00000", "train-00001"), ("train-00001", "val-00001")])
def test_swapped_shards_are_refused_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    """Guards: two intact files whose names were exchanged: another order, or validation text trained on."""
    make(tmp_path)
    for suffix in (".bin", ".idx"):
        (tmp_path / f"{names[0]}{suffix}").rename(tmp_path / "aside")
        (tmp_path / f"{names[1]}{suffix}").rename(tmp_path / f"{names[0]}{suffix}")
        (tmp_path / "aside").rename(tmp_path / f"{names[1]}{suffix}")
    refused(tmp_path, rf"{names[0]}\.bin: holds {names[1]}\.bin of split")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "0" * 16}, "its run is 0000000000000000, shards.json says"),
        ({"fingerprint": "f" * 16}, "its tokenizer_fingerprint is ffff"),
        ({"n_vocab": 301}, "its n_vocab is 301, shards.json says 300"),
        ({"end_of_text": 8}, "its end_of_text is 8, shards.json says 9"),
        ({"n_vocab": 70_000}, "its n_vocab is 70000"),
    ],
)
def test_an_intact_shard_of_another_encoding_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    """Guards: a stale file of an earlier corpus or tokenizer in its right place, hashes and all."""
    here, other = make(tmp_path / "here"), make(tmp_path / "other", **change)
    for suffix in (".bin", ".idx"):
        shutil.copyfile(other / f"train-00001{suffix}", here / f"train-00001{suffix}")
    refused(here, rf"train-00001\.bin: of another encoding: {message}")


def test_shards_of_the_same_encoding_with_other_tokens_are_refused(tmp_path: Path) -> None:
    """Guards: a file whose header is right in all but its content."""
    here = make(tmp_path / "here")
    other = write_tiny_shards(tmp_path / "other", {"train": [[[1, 2], [4]]]})
    for suffix in (".bin", ".idx"):
        shutil.copyfile(other / f"train-00000{suffix}", here / f"train-00000{suffix}")
    refused(here, r"shards\.json: does not describe train-00000\.bin as it is")


def test_a_list_in_another_order_is_refused(tmp_path: Path) -> None:
    """Guards: a list edited by hand that changes the order of the corpus."""
    make(tmp_path)
    path = tmp_path / "shards.json"
    content = json.loads(path.read_text())
    content["splits"]["train"].reverse()
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    refused(tmp_path, "the shards of train do not stand in their order")


def test_wrong_tokenizer_and_split_are_refused(tmp_path: Path) -> None:
    """Guards: ids of one vocabulary read with another."""
    make(tmp_path)
    refused(tmp_path, f"train-00000.bin: made with tokenizer {FINGERPRINT}, not ffff", fingerprint="ffff")
    refused(tmp_path, "no split 'test'; it lists train, val", split="test")
