"""gpt/checkpoint/sharded.py: any run of elements out of any runs, and no index that lies."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.safetensors import SafetensorsFile, write_safetensors
from gpt.checkpoint.sharded import INDEX, Entry, Run, ShardedFolder, read_index, write_index

WHOLE = torch.arange(21.0).view(7, 3)


def write_runs(folder: Path, borders: list[int]) -> None:
    """Write WHOLE as runs between borders, each in a file of its own."""
    runs = []
    for i, (start, stop) in enumerate(itertools.pairwise(borders)):
        run = Run(file=f"shard-{i}.safetensors", key=f"w@{start}", start=start, stop=stop)
        write_safetensors(folder / run.file, {run.key: WHOLE.view(-1)[start:stop]})
        runs.append(run)
    entry = Entry(dtype=torch.float32, shape=WHOLE.shape, runs=tuple(reversed(runs)))
    (folder / INDEX).write_bytes(write_index({"model/w": entry}))


@pytest.mark.parametrize("borders", [[0, 21], [0, 9, 21], [0, 1, 2, 20, 21]])
def test_every_part_of_every_division(tmp_path: Path, borders: list[int]) -> None:
    """Guards: an element too many or too few where runs meet; runs listed in another order than they lie."""
    write_runs(tmp_path, borders)
    folder = ShardedFolder(tmp_path)
    assert folder.names("model") == ["w"]
    assert folder.names("optimizer") == []
    assert torch.equal(folder.read_whole("model/w"), WHOLE)
    for start in range(22):
        for stop in range(start, 22):
            assert torch.equal(folder.read("model/w", start, stop), WHOLE.view(-1)[start:stop]), (start, stop)


def test_a_state_of_one_process_is_read_alike(tmp_path: Path) -> None:
    """Guards: a second reader for whole tensors; a scalar, which has one element and no dimension."""
    write_safetensors(tmp_path / "model.safetensors", {"w": WHOLE})
    write_safetensors(tmp_path / "optimizer.safetensors", {"adamw.step|w": torch.tensor(3.0)})
    folder = ShardedFolder(tmp_path)
    assert torch.equal(folder.read("model/w", 4, 11), WHOLE.view(-1)[4:11])
    assert torch.equal(folder.read_whole("optimizer/adamw.step|w"), torch.tensor(3.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": [["a", "w", 0, 9], ["b", "w", 10, 21]]}, "elements 10..21"),
        ({"runs": [["a", "w", 0, 9], ["b", "w", 8, 21]]}, "elements 8..21"),
        ({"runs": [["a", "w", 0, 9]]}, "9 of 21 elements"),
        ({"runs": [["../a", "w", 0, 21]]}, "'../a'"),
        ({"dtype": "F8"}, "F8"),
        ({"shape": "x"}, "damaged"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Guards: a gap filled with whatever the memory held, a file outside of the folder."""
    write_runs(tmp_path, [0, 21])
    index = json.loads((tmp_path / INDEX).read_text())
    index["tensors"]["model/w"] |= change
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message) as error:
        read_index(tmp_path)
    assert str(tmp_path / INDEX) in str(error.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """Guards: a later format read as this one."""
    (tmp_path / INDEX).write_text('{"format": "rawgpt-sharded-2", "tensors": {}}')
    with pytest.raises(ValueError, match="rawgpt-sharded-2"):
        read_index(tmp_path)


def test_elements_behind_a_tensors_end_are_refused(tmp_path: Path) -> None:
    """Guards: the next tensor's bytes read as this one's."""
    write_safetensors(tmp_path / "a", {"v": torch.ones(4), "w": WHOLE})
    with pytest.raises(ValueError, match=r"v has no elements 2\.\.5"):
        SafetensorsFile(tmp_path / "a").read("v", 2, 5)
