"""benchmarks/export_against_peers.py states a difference wherever two answers part."""

import pytest

from benchmarks.export_against_peers import N_GREEDY, compare


def test_the_token_at_which_they_part_counts() -> None:
    """Guards: two answers with no token in common were listed with a difference of 0.0."""
    ours = [(1, -1.0)] * N_GREEDY
    row = compare(ours, [(2, -1.5)] * N_GREEDY)
    assert row["equal_tokens"] == 0
    assert row["max_logprob_difference"] == pytest.approx(0.5)
    row = compare(ours, [(1, -1.25)] * 3 + [(2, -1.0)] * (N_GREEDY - 3))
    assert (row["equal_tokens"], row["max_logprob_difference"]) == (3, 0.25)
    assert compare(ours, ours)["equal_tokens"] == N_GREEDY
