"""gpt/checkpoint/safetensors.py: the file format, byte by byte."""

import json
import struct
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.safetensors import DTYPES, read_safetensors, write_safetensors


def test_layout_by_hand(tmp_path: Path) -> None:
    """Guards: a file that only we can read. Header length, JSON padded to 8, little-endian rows."""
    write_safetensors(tmp_path / "x", {"b": torch.tensor([[1, 2], [3, 4]], dtype=torch.int16)})
    raw = (tmp_path / "x").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert length % 8 == 0
    assert json.loads(raw[8 : 8 + length]) == {"b": {"dtype": "I16", "shape": [2, 2], "data_offsets": [0, 8]}}
    assert raw[8 + length :] == b"\1\0\2\0\3\0\4\0"


def test_round_trip_of_every_dtype_and_shape(tmp_path: Path) -> None:
    """Guards: scalars, empty tensors, non-contiguous views, bfloat16."""
    tensors = {str(d): torch.arange(6).reshape(2, 3).to(d) for d in DTYPES.values()}
    tensors |= {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "view": torch.arange(6.0).view(2, 3).T,
    }
    write_safetensors(tmp_path / "x", tensors)
    back = read_safetensors(tmp_path / "x")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:5], "too few"),
        (lambda raw: struct.pack("<Q", 10**12) + raw[8:], "claims"),
        (lambda raw: raw[:8] + b"x" + raw[9:], "not JSON"),
        (lambda raw: raw[:-1], "wrong offsets"),
        (lambda raw: raw + b"\0", "follow the last tensor"),
        (lambda raw: raw.replace(b'"F32"', b'"F33"'), "unknown dtype"),
    ],
)
def test_damage_is_refused_by_name(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    """Guards: reading past the end, or a header that allocates a terabyte."""
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(4)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        read_safetensors(path)
    assert "x.safetensors" in str(error.value)
