"""gpt/workers/dask_parts.py on a real scheduler with two worker processes; without Dask it skips."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt.tokenizer.tokenizer import char_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.workers import dask_parts
from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts


@pytest.fixture(scope="module")
def cluster() -> Iterator[WorkersConfig]:
    """A scheduler and two workers, each a process of one thread."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` (Dask) is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as running:
        yield WorkersConfig(processes=0, engine="dask", address=running.scheduler_address)


def square(n: int) -> tuple[int, int]:
    time.sleep(0.02 * (n % 3))
    return n * n, os.getpid()


def refuse_three(n: int) -> int:
    if n == 3:
        raise ValueError("part 3: not mine")
    return n


def die_once(note: str) -> int:
    """Kill the worker in the middle of the part, the first time that it is tried."""
    if not Path(note).exists():
        Path(note).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def test_results_come_in_order_from_other_processes(cluster: WorkersConfig) -> None:
    """Guards: results in the order of their arrival; a cluster that nobody asked to work."""
    results = list(map_parts(square, range(30), cluster))
    assert [value for value, _ in results] == [n * n for n in range(30)]
    pids = {pid for _, pid in results}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_an_error_of_a_part_is_the_callers(cluster: WorkersConfig) -> None:
    """Guards: a ValueError for the user that arrives as an error of Dask."""
    with pytest.raises(ValueError, match="part 3: not mine"):
        list(map_parts(refuse_three, range(6), cluster))


def test_a_killed_worker_costs_its_part_only(cluster: WorkersConfig, tmp_path: Path) -> None:
    """Guards: a map that ends, or waits for ever, because one machine went away."""
    assert list(map_parts(die_once, [str(tmp_path / "note")], cluster)) == [7]
    assert (tmp_path / "note").read_text() == "died"


def test_shards_are_the_ones_of_one_process(cluster: WorkersConfig, tmp_path: Path) -> None:
    """Guards: a corpus that depends on where it was encoded."""
    from gpt.dataset.encode_corpus import assemble, encode_parts

    texts = [f"document {i} namaste " * (i % 5 + 1) for i in range(40)]
    save_tokenizer(tmp_path / "tokenizer", char_tokenizer(texts))
    lines = [
        json.dumps({"id": str(i), "text": text, "split": "train" if i % 5 else "val"})
        for i, text in enumerate(texts)
    ]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines) + "\n")
    for name, workers in (("local", WorkersConfig(processes=1)), ("dask", cluster)):
        inputs = (tmp_path, tmp_path / "tokenizer", tmp_path / name)
        parts = list(encode_parts(*inputs, part_bytes=500, workers=workers))
        assert len(parts) > 5
        assemble(parts, tmp_path / name, tmp_path / f"{name}-shards")
    here, there = tmp_path / "local-shards", tmp_path / "dask-shards"
    assert {f.name: f.read_bytes() for f in here.iterdir()} == {
        f.name: f.read_bytes() for f in there.iterdir()
    }


def test_a_worker_with_other_code_is_refused(cluster: WorkersConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a machine left at an older commit that encodes differently, without a word."""
    monkeypatch.setattr(dask_parts, "code_hash", lambda: "0" * 16)
    with pytest.raises(ValueError, match=r"the Dask worker on .* runs another version of gpt/"):
        list(map_parts(refuse_three, [1], cluster))


def test_no_scheduler_is_one_line(cluster: WorkersConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a wait without end for an address that was mistyped."""
    monkeypatch.setattr(dask_parts, "CONNECT_S", 1.0)
    wrong = WorkersConfig(processes=0, engine="dask", address="tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"workers\.address: no Dask scheduler at tcp://127\.0\.0\.1:9"):
        list(map_parts(refuse_three, [1], wrong))


def test_without_dask_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an ImportError as the answer to a dial."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    workers = WorkersConfig(processes=0, engine="dask", address="tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"dask is not installed; type `pip install 'rawgpt\[cluster\]'`"):
        list(map_parts(refuse_three, [1], workers))


def test_engine_and_address_go_together() -> None:
    """Guards: an address that is ignored, and a cluster without one."""
    with pytest.raises(ValueError, match="address: engine dask needs its scheduler's"):
        WorkersConfig(processes=0, engine="dask")
    with pytest.raises(ValueError, match="is of no use to engine local"):
        WorkersConfig(processes=0, address="tcp://127.0.0.1:9")
