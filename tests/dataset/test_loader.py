"""gpt/dataset/loader.py: the order of samples is a pure function of the cursor."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.dataset import loader
from gpt.dataset.loader import GlobalShuffle, RankSlice, TokenWindows
from gpt.dataset.permutation import FeistelPermutation

TOKENS = np.arange(1000)


def test_every_sample_once_an_epoch_in_a_new_order() -> None:
    """Guards: repeated or skipped samples, and the same order every epoch."""
    shuffle = GlobalShuffle(50, seed=3)
    epochs = [shuffle(e * 50, 50)[1].tolist() for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_order_is_the_same_after_any_resume() -> None:
    """Guards: samples that depend on how far one had read before."""
    whole, _ = TokenWindows(TOKENS, 7, seed=5).batch(0, 400)  # more than two epochs
    fresh = TokenWindows(TOKENS, 7, seed=5)
    late, _ = fresh.batch(301, 3)  # a resumed run begins in the middle
    assert torch.equal(late, whole[301:304])


def test_windows_stay_inside_and_move_each_epoch() -> None:
    """Guards: S3's periodicity fault: the same window boundaries, epoch after epoch."""
    windows = TokenWindows(TOKENS, 16, seed=1)
    starts = []
    for epoch in range(20):
        x, y = windows.batch(epoch * windows.shuffle.n, windows.shuffle.n)
        assert torch.equal(x + 1, y)
        assert y.max() <= 999
        starts.append(int(x[:, 0].min()))
    assert len(set(starts)) > 8
    assert all(0 <= start < 16 for start in starts)


def test_too_short_a_corpus_names_the_dial() -> None:
    """Guards: an empty epoch and a division by zero."""
    with pytest.raises(ValueError, match=r"seq_len: the corpus has 20 tokens.*lower seq_len to 10"):
        TokenWindows(np.arange(20), 16, seed=0)


def test_small_orders_are_numpy_s_and_large_ones_are_computed() -> None:
    """Guards: another order for the corpora whose figures are published; an array of 10^9 numbers."""
    shuffle = GlobalShuffle(1000, seed=7)
    expected = [np.random.default_rng([7, epoch]).permutation(1000) for epoch in range(2)]
    assert np.array_equal(shuffle(300, 1700)[1], np.concatenate(expected)[300:])
    n = 10**9
    large = GlobalShuffle(n, seed=7)
    epochs, samples = large(n - 2, 4)
    assert epochs.tolist() == [0, 0, 1, 1]
    assert samples[:2].tolist() == FeistelPermutation(n, [7, 0])(np.array([n - 2, n - 1])).tolist()
    assert samples[2:].tolist() == FeistelPermutation(n, [7, 1])(np.array([0, 1])).tolist()


@pytest.mark.parametrize("limit", [2**20, 1])
def test_ranks_share_the_order_of_one(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: samples that depend on the number of ranks. Steps of 2 micro batches of 8, resumed anywhere,
    over epochs that end within a batch; with the order stored and computed."""
    monkeypatch.setattr(loader, "STORED_LIMIT", limit)
    whole = TokenWindows(TOKENS, 7, seed=5)  # 141 samples
    for world_size in (1, 2, 4):
        ranks = [
            RankSlice(TokenWindows(TOKENS, 7, seed=5), rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for step in (0, 8, 9, 17, 30):
            for micro in range(2):
                cursor = step * 16 + micro * 8
                parts = [rank.batch(cursor, 8) for rank in ranks]
                assert all(len(x) == 8 // world_size for x, _ in parts)
                expected = whole.batch(cursor, 8)
                assert torch.equal(torch.cat([x for x, _ in parts]), expected[0])
                assert torch.equal(torch.cat([y for _, y in parts]), expected[1])
    with pytest.raises(ValueError, match="micro_batch_size: 6 samples do not divide among 4 ranks; write 8"):
        RankSlice(whole, rank=0, world_size=4).batch(0, 6)


def test_any_source_with_a_length_and_slices(tmp_path: Path) -> None:
    """Guards: a loader that needs an array: shards one behind the other are not one."""

    class Halves:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, span: slice) -> np.ndarray:
            halves = np.split(TOKENS.astype(np.uint16), [500])
            return np.concatenate(halves)[span]

    TOKENS.astype(np.uint16).tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", dtype=np.uint16, mode="r")
    expected = TokenWindows(TOKENS, 9, seed=2).batch(100, 20)
    for source in (Halves(), mapped):
        x, y = TokenWindows(source, 9, seed=2).batch(100, 20)
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])
