"""A checkpoint folder as NumPy arrays: manifest, safetensors, packed int4. Read only, every bound checked.

Contract: docs/architecture.md, "Checkpoint folder" and "Packed int4". 4-bit weights become float32 when the
model is opened: NumPy multiplies nothing smaller well.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

FORMAT = "rawgpt-checkpoint-1"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
ZERO_CODE = 8
PACKED_INT4 = ("gptq", "awq", "nearest")
"""Methods whose file is packed int4."""


def check_manifest(folder: Path) -> None:
    """Compare every file of the folder with manifest.json; raises ValueError that names the first fault."""
    try:
        hashes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{folder}: no readable manifest.json, so it is no finished checkpoint") from None
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path}: missing, though manifest.json lists it")
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{path}: damaged, its sha256 is not the manifest's")


def read_safetensors(path: Path) -> Arrays:
    """Return the tensors of a file by name; BF16 and F16 become float32. Raises ValueError when damaged."""
    data = path.read_bytes()
    if len(data) < 8 or struct.unpack_from("<Q", data)[0] > len(data) - 8:
        raise ValueError(f"{path}: damaged safetensors header")
    start = 8 + struct.unpack_from("<Q", data)[0]
    header: dict[str, Any] = json.loads(data[8:start])
    header.pop("__metadata__", None)
    arrays: Arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} has the unknown dtype {entry['dtype']}")
        dtype = np.dtype(DTYPES[entry["dtype"]])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if not 0 <= begin <= end <= len(data) - start or end - begin != count * dtype.itemsize:
            raise ValueError(f"{path}: {name} has wrong offsets {begin}..{end}")
        array = np.frombuffer(data, dtype, count, start + begin).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F16" or entry["dtype"] == "F64":
            array = array.astype(np.float32)
        arrays[name] = array
    return arrays


def dequantize(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return float32 (out, in) of packed (out, in/2), low nibble first, and scales (out, in/g)."""
    codes = np.stack((packed & 0xF, packed >> 4), axis=-1)  # (out, in/2, 2)
    codes = codes.reshape(len(packed), scales.shape[1], -1)  # (out, in/g, g)
    values = (codes.astype(np.float32) - ZERO_CODE) * scales[:, :, None].astype(np.float32)
    return values.reshape(len(packed), -1)


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], Arrays]:
    """Return config.json and the float32 tensors of a verified checkpoint folder."""
    check_manifest(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("format") != FORMAT:
        raise ValueError(f"{folder}/config.json: format {config.get('format')!r}; {FORMAT!r} is read")
    quantization = config.get("quantization")
    if quantization and (quantization["method"] not in PACKED_INT4 or quantization["bits"] != 4):
        raise ValueError(
            f"{folder}/config.json: quantization.method: {quantization['method']!r} with "
            f"{quantization['bits']} bits; the enclave's guest reads packed int4: write quantize.method: "
            f"{', '.join(PACKED_INT4)}"
        )
    arrays = read_safetensors(folder / "model.safetensors")
    linears = quantization["linears"] if quantization else []
    packed_names = [name.removesuffix(".packed") for name in arrays if name.endswith(".packed")]
    if sorted(packed_names) != sorted(linears):
        raise ValueError(f"{folder}: the packed tensors are not the linears that config.json lists")
    for name in linears:
        arrays[f"{name}.weight"] = dequantize(arrays.pop(f"{name}.packed"), arrays.pop(f"{name}.scales"))
    return config, {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
