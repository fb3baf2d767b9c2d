"""The safetensors file format, read and written: 8-byte little-endian header length, JSON, raw data.

Source: the format's public specification (header capped at 100 MB, offsets contiguous, row-major,
little-endian). It carries no checksum: manifest.py adds one.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.durable_file import write_durably

MAX_HEADER_BYTES = 100_000_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: dict[str, str] | None = None
) -> str:
    """Write tensors in name order and flush them to the disk; return the file's sha256.

    The same tensors give the same bytes. Raises OSError.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned
    return write_durably(path, _chunks(struct.pack("<Q", len(text)) + text, tensors))


def _chunks(head: bytes, tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the file's bytes: the head, then every tensor's, one after the other."""
    yield head
    for _, tensor in sorted(tensors.items()):
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield raw.numpy().data


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors; raises ValueError that names the file when a bound or a dtype is wrong."""
    data = bytearray(path.read_bytes())
    entries = _entries(path, data[: 8 + _header_bytes(path, data[:8], len(data))], len(data))
    return {
        name: _tensor(memoryview(data)[begin:end], dtype).view(shape)
        for name, (dtype, shape, (begin, end)) in entries.items()
    }


class SafetensorsFile:
    """A file of which some elements are read, without the rest. Raises ValueError like read_safetensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(_header_bytes(path, head, size))
        self.entries = _entries(path, head, size)
        """Name -> dtype, shape, where its bytes begin and end in the file."""

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return elements start..stop-1 (n,) of a flattened tensor."""
        dtype, shape, (begin, _) = self.entries[name]
        if not 0 <= start <= stop <= shape.numel():
            raise ValueError(f"{self.path}: {name} has no elements {start}..{stop}")
        data = bytearray((stop - start) * dtype.itemsize)
        with self.path.open("rb") as file:
            file.seek(begin + start * dtype.itemsize)
            n_read = file.readinto(data)
        assert n_read == len(data), "its size was checked against the header"
        return _tensor(memoryview(data), dtype)


Entries = dict[str, tuple[torch.dtype, torch.Size, tuple[int, int]]]


def _tensor(data: memoryview, dtype: torch.dtype) -> Tensor:
    """Return a vector on bytes, sharing them; torch refuses none at all."""
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype) if data else torch.empty(0, dtype=dtype)


def _header_bytes(path: Path, head: bytes | bytearray, size: int) -> int:
    """Return the length of the JSON behind the first eight bytes, checked against the file's size."""
    if size < 8:
        raise ValueError(f"{path}: {size} bytes are too few for a safetensors file")
    (header_len,) = struct.unpack_from("<Q", head)
    if header_len > min(MAX_HEADER_BYTES, size - 8):
        raise ValueError(f"{path}: the header claims {header_len} bytes of a {size} byte file")
    return header_len


def _entries(path: Path, head: bytes | bytearray, size: int) -> Entries:
    """Return the tensors by name, in the order of their bytes, all offsets checked."""
    try:
        header = json.loads(head[8:])
    except ValueError:
        raise ValueError(f"{path}: the safetensors header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the safetensors header is no mapping")
    header.pop("__metadata__", None)
    found = sorted((_entry(path, name, entry) for name, entry in header.items()), key=lambda entry: entry[3])
    entries: Entries = {}
    end_of_last = 0
    for name, dtype, shape, (begin, end) in found:
        too_far = end > size - len(head)
        if begin != end_of_last or too_far or end - begin != shape.numel() * dtype.itemsize:
            raise ValueError(f"{path}: {name} has wrong offsets {begin}..{end}")
        end_of_last = end
        entries[name] = dtype, shape, (len(head) + begin, len(head) + end)
    if end_of_last != size - len(head):
        raise ValueError(f"{path}: {size - len(head) - end_of_last} bytes follow the last tensor")
    return entries


def _entry(path: Path, name: str, entry: Any) -> tuple[str, torch.dtype, torch.Size, tuple[int, int]]:
    """Check one entry of the header: name, dtype, shape, where its bytes begin and end."""
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: the header's entry of {name} is damaged") from None
    if code not in DTYPES:
        raise ValueError(f"{path}: {name} has the unknown dtype {code}")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"{path}: the header's entry of {name} is damaged")
    return name, DTYPES[code], torch.Size(shape), (begin, end)
