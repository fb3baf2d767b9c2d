"""gpt/dataset/encode_corpus.py: the same shards whoever encodes them, and nothing lost to a kill."""

import dataclasses
import functools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gpt.dataset.encode_corpus import EncodedPart, assemble, cut_tasks, encode_part, encode_parts
from gpt.dataset.shard_set import open_shards
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer, train_tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer, save_tokenizer
from gpt.workers.config import WorkersConfig

ROOT = Path(__file__).parents[2]
WORDS = [
    "paisa",
    "wapas",
    "nahi",
    "aaya",
    "दस्तावेज़",
    "the",
    "bank",
    "said",
    "<|endoftext|>",
    "wait",
    "1234",
    "days\n",
]
ONE = WorkersConfig(processes=1)


def texts(n: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(200))) for _ in range(n)]


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer(texts(20), 300, "gpt2")


def write_corpus(folder: Path, n: int = 60, tokenizer: Tokenizer | None = None) -> list[dict[str, str]]:
    """Write documents.jsonl, the first and every seventh of them val; and tokenizer/."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        {"id": f"d{i}", "split": "train" if i % 7 else "val", "text": text} for i, text in enumerate(texts(n))
    ]
    lines = (json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    (folder / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
    save_tokenizer(folder / "tokenizer", tokenizer or tiny_tokenizer())
    return documents


def encode(
    folder: Path, part_bytes: int, workers: WorkersConfig = ONE, out: str = "out"
) -> list[EncodedPart]:
    """Encode `folder` to `folder/<out>/shards`, its parts in `folder/<out>/parts`."""
    parts_folder = folder / out / "parts"
    work = encode_parts(folder, folder / "tokenizer", parts_folder, part_bytes=part_bytes, workers=workers)
    parts = list(work)
    assemble(parts, parts_folder, folder / out / "shards")
    return parts


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["bpe", "char"])
@pytest.mark.parametrize("part_bytes", [400, 3000, 2**30])
def test_the_stream_is_the_documents_in_their_order(tmp_path: Path, part_bytes: int, kind: str) -> None:
    """Guards: a document lost, doubled or moved at the border of a part. Reference: encode(), one by one."""
    tokenizer = tiny_tokenizer() if kind == "bpe" else char_tokenizer(texts(60))
    documents = write_corpus(tmp_path, tokenizer=tokenizer)
    parts = encode(tmp_path, part_bytes)
    for split in ("train", "val"):
        ids = [tokenizer.encode(d["text"]) for d in documents if d["split"] == split]
        stream = open_shards(tmp_path / "out" / "shards", split, tokenizer.fingerprint)
        assert stream[:].tolist() == [i for one in ids for i in (*one, tokenizer.end_of_text)]
        starts = np.cumsum([0, *(len(one) + 1 for one in ids)])
        assert np.array_equal(stream.document_starts, starts[:-1])
    assert sum(part.n_bytes for part in parts) == sum(len(d["text"].encode()) for d in documents)


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    """Guards: shards that depend on who made them."""
    write_corpus(tmp_path)
    encode(tmp_path, 3000, ONE, "one")
    encode(tmp_path, 3000, WorkersConfig(processes=2), "two")
    assert files_of(tmp_path / "one" / "shards") == files_of(tmp_path / "two" / "shards")


def test_a_part_without_a_document_of_a_split_writes_no_shard(tmp_path: Path) -> None:
    """Guards: an empty shard, and shards numbered differently from their parts."""
    write_corpus(tmp_path, n=9)
    encode(tmp_path, 64)  # many parts hold no line
    listed = json.loads((tmp_path / "out" / "shards" / "shards.json").read_text())["splits"]
    assert [entry["n_documents"] for entry in listed["val"]] == [1, 1]
    assert [entry["n_documents"] for entry in listed["train"]] == [1] * 7


def test_what_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    """Guards: `'ज' is unknown` without the document that holds it; half a shard left behind."""
    write_corpus(tmp_path, tokenizer=char_tokenizer(["abc paisa"]))
    with pytest.raises(
        ValueError, match=r"documents.jsonl: document 'd\d+': the char tokenizer does not know"
    ):
        encode(tmp_path, 2**30)
    assert not list((tmp_path / "out" / "parts").iterdir())
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "abc", "split": "dev"}\n')
    with pytest.raises(ValueError, match=r"document 'a': split 'dev'; train and val are known"):
        encode(tmp_path, 2**30)
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "abc", "split": "train"}\n{"id": \n')
    with pytest.raises(ValueError, match=r"documents.jsonl: byte 45: not a document"):
        encode(tmp_path, 2**30)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    """Guards: a run without validation that nobody asked for."""
    write_corpus(tmp_path, n=1)
    with pytest.raises(ValueError, match=r"no document in split 'train'; change fetch\.val_fraction"):
        encode(tmp_path, 2**30)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "train-00001.bin").write_bytes(b"short"), "train-00001.bin: not a rawgpt shard"),
        (lambda f: (f / "train-00001.bin").unlink(), "does not describe the shards beside it"),
        (lambda f: (f / "part-00001.json").write_text("{"), "part 1 is encoded again"),
        (
            lambda f: [
                (f / f"train-00001{s}").write_bytes((f / f"train-00002{s}").read_bytes())
                for s in (".bin", ".idx")
            ],
            "does not describe the shards beside it",
        ),
    ],
)
def test_a_damaged_part_is_encoded_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, reason: str
) -> None:
    """Guards: what a crash of the machine did to a finished part carried into the corpus."""
    write_corpus(tmp_path)
    encode(tmp_path, 3000)
    good = files_of(tmp_path / "out" / "shards")
    for file in (tmp_path / "out" / "shards").iterdir():  # the parts' files are the same ones on disk
        file.unlink()
    (tmp_path / "out" / "shards").rmdir()
    damage(tmp_path / "out" / "parts")  # type: ignore[operator]
    again = encode(tmp_path, 3000)
    assert [i for i, part in enumerate(again) if not part.was_done] == [1]
    assert reason in capsys.readouterr().err
    assert files_of(tmp_path / "out" / "shards") == good


def test_parts_of_another_corpus_or_tokenizer_are_not_taken_over(tmp_path: Path) -> None:
    """Guards: an edited document or a new tokenizer beside finished parts of the old."""
    write_corpus(tmp_path)
    encode(tmp_path, 3000, out="a")
    text = (tmp_path / "documents.jsonl").read_text(encoding="utf-8")
    (tmp_path / "documents.jsonl").write_text(text.replace("bank", "Bank"), encoding="utf-8")
    for tokenizer in (tiny_tokenizer(), train_tokenizer(texts(20), 301, "gpt2")):
        save_tokenizer(tmp_path / "tokenizer", tokenizer)
        folder = tmp_path / "a" / "parts"
        work = encode_parts(tmp_path, tmp_path / "tokenizer", folder, part_bytes=3000, workers=ONE)
        assert not any(part.was_done for part in work)


SLOW = """
import sys, time
from pathlib import Path
import gpt.dataset.encode_corpus as module
from gpt.workers.config import WorkersConfig
from tests.dataset.test_encode_corpus import encode, encode_slowly
if __name__ == "__main__":
    module.encode_part = encode_slowly
    encode(Path(sys.argv[1]), 2000, WorkersConfig(processes=2))
"""


def encode_slowly(task):  # type: ignore[no-untyped-def]
    """encode_part, slow enough to be killed in the middle; in the worker the module is as it was."""
    import gpt.dataset.encode_corpus as module

    time.sleep(0.1)
    return module.encode_part(task)


@pytest.mark.skipif(sys.platform != "linux", reason="process groups and /proc")
@pytest.mark.parametrize("only_parent", [False, True])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, only_parent: bool) -> None:
    """Guards: work lost to `kill -9`, and shards that differ after it. The kill falls on the whole tree, or
    on the parent alone: then no worker may go on writing beside the next run."""
    write_corpus(tmp_path)
    encode(tmp_path, 2000, out="whole")
    n_parts = len(list((tmp_path / "whole" / "parts").glob("part-*.json")))
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=environment, start_new_session=True
    )
    folder = tmp_path / "out" / "parts"
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("part-*.json"))) < 3:
            assert time.monotonic() < deadline, "no part was finished"
            assert process.poll() is None
            time.sleep(0.01)
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        os.kill(process.pid, signal.SIGKILL) if only_parent else os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    n_done = len(list(folder.glob("part-*.json")))
    assert 3 <= n_done < n_parts, "the kill came too late to test anything"
    assert not (tmp_path / "out" / "shards").exists()
    parts = encode(tmp_path, 2000)
    assert sum(part.was_done for part in parts) == n_done
    assert files_of(tmp_path / "out" / "shards") == files_of(tmp_path / "whole" / "shards")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and "Z" not in path.read_text().rsplit(")", 1)[1].split()[0]


def test_encode_array_equals_encode(tmp_path: Path) -> None:
    """Guards: a fast path with other ids, in special tokens' names and long runs above all, and the panic
    of the engine's pattern on a million white spaces."""
    for tokenizer in (tiny_tokenizer(), char_tokenizer(texts(60))):
        save_tokenizer(tmp_path, tokenizer)
        for text in (*texts(30), "", "<|endoftext|>", "   \n\n  ", "x" * 70_000, " " * 1_000_000):
            if tokenizer.kind == "bpe" or set(text) <= set("".join(texts(60))):
                array = load_tokenizer(tmp_path).encode_array(text)
                assert array.dtype == np.uint32
                assert array.tolist() == tokenizer.encode(text)
    with pytest.raises(ValueError, match=r"does not know '🙂'"):
        char_tokenizer(["ab"]).encode_array("ab🙂b")


def test_a_worker_that_cannot_see_the_folders_says_so(tmp_path: Path) -> None:
    """Guards: another machine's `No such file` without the machine and the remedy."""
    write_corpus(tmp_path)
    (task, *_) = cut_tasks(tmp_path, tmp_path / "tokenizer", tmp_path / "parts", 3000)
    gone = tmp_path / "gone"
    here = platform.node()
    with pytest.raises(ValueError, match=rf"{gone}: no such folder on {here}; every worker needs"):
        encode_part(dataclasses.replace(task, folder=gone))
    part = dataclasses.replace(task.part, path=gone / "documents.jsonl")
    with pytest.raises(ValueError, match=rf"documents.jsonl: no such file on {here}; a worker needs"):
        encode_part(dataclasses.replace(task, part=part))
    with pytest.raises(ValueError, match=rf"tokenizer: tokenizer [0-9a-f]+ on {here}, ffff is expected"):
        encode_part(dataclasses.replace(task, tokenizer_fingerprint="ffff"))
