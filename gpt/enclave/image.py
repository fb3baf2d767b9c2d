"""One enclave image from a checkpoint: packages -> root -> ramdisks -> EIF, with its measurements.

The image is measured, not booted and not signed here. Where kernel or packages cannot be had, the payload
(init, guest, model) is what there is to measure.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt.enclave import rootfs
from gpt.enclave.config import PackageConfig
from gpt.enclave.cpio import compress, write_cpio
from gpt.enclave.eif import Image, describe_eif, write_eif
from gpt.enclave.file_tree import Tree, file
from gpt.enclave.guest.completions import open_completer
from gpt.enclave.guest.model import Cache
from gpt.enclave.init_build import build_init, compiler_name

BUILD_TIME = "1970-01-01T00:00:00+00:00"
BUILD_TOOL_VERSION = "1"  # raise it when the same inputs give other bytes
NOTE = "measured, never booted"
MIB = 2**20
SYSTEM_BYTES = 128 * MIB
"""Kernel, compressed ramdisks while they are unpacked, Python and NumPy without weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What the stage writes."""

    file_name: str
    """`rawgpt.eif`, or `payload.cpio.gz` where there is no EIF."""
    data: bytes
    measurement: dict[str, Any]


def check_guest(checkpoint: Path) -> int:
    """Run the guest's own code on the checkpoint once; return the bytes of its float32 weights.

    Raises ValueError when the guest cannot run it.
    """
    completer = open_completer(checkpoint)
    model = completer.model
    logits = model.last_logits([completer.tokenizer.n_vocab - 1], Cache(model.architecture))
    if not np.isfinite(logits).all():
        raise ValueError(f"{checkpoint}: the guest computes logits that are not finite; retrain it")
    return sum({id(array): array.nbytes for array in model.tensors.values()}.values())


def memory_mib(config: PackageConfig, eif_bytes: int, unpacked_bytes: int, weights_bytes: int) -> int:
    """Return the least enclave memory: nitro-cli's rule, or what the guest needs if that is more.

    The kernel unpacks ramdisks into a tmpfs of half the memory, and the guest keeps float32 weights.
    """
    needed = 2 * unpacked_bytes + weights_bytes + SYSTEM_BYTES
    return math.ceil(max(config.memory_multiple * eif_bytes, needed) / MIB)


def build_image(
    config: PackageConfig, checkpoint: Path, fetch: Callable[[str], Path], *, weights_bytes: int
) -> Built:
    """Build and measure the image; `fetch` gives a registry entry's file or raises what it raises.

    `weights_bytes` is what check_guest says.
    """
    packages = rootfs.read_guest_packages()
    kernel_deb = fetch(config.kernel)
    debs = [fetch(name) for name in packages.packages]
    init, ours = build_init(), rootfs.payload(checkpoint)
    version, kernel, modules = rootfs.read_kernel(kernel_deb, packages)
    root = rootfs.root_file_system(debs, packages, ours)
    trees = (rootfs.first_ramdisk(init, modules), rootfs.second_ramdisk(root))
    unpacked_bytes = sum(len(entry.data) for tree in trees for entry in tree.values())
    image = Image(
        kernel=kernel,
        cmdline=config.cmdline.encode(),
        ramdisks=tuple(_ramdisk(config, tree) for tree in trees),
        metadata=_metadata(config, version, checkpoint),
    )
    data = write_eif(image)
    described = describe_eif(data)
    assert described["pcrs"] == image.pcrs()
    measurement = _measured(config, checkpoint, init, ours) | {
        "eif": {
            "file": "rawgpt.eif",
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "sections": described["sections"],
            "metadata": described["metadata"],
        },
        "pcrs": described["pcrs"],
        "min_memory_mib": memory_mib(config, len(data), unpacked_bytes, weights_bytes),
        "unpacked_bytes": unpacked_bytes,
        "weights_bytes": weights_bytes,
        "kernel_version": version,
        "packages": [{"file": deb.name, "sha256": _sha256(deb)} for deb in (kernel_deb, *debs)],
    }
    return Built(file_name="rawgpt.eif", data=data, measurement=measurement)


def build_payload(config: PackageConfig, checkpoint: Path, reason: str) -> Built:
    """Measure what is ours alone, because there is no kernel or no base system; `reason` says why."""
    init, ours = build_init(), rootfs.payload(checkpoint)
    data = compress(write_cpio(ours | {"init": file(init, 0o755)}), "gzip", config.compression_level)
    measurement = _measured(config, checkpoint, init, ours) | {"eif": None, "why_no_eif": reason}
    return Built(file_name="payload.cpio.gz", data=data, measurement=measurement)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _ramdisk(config: PackageConfig, tree: Tree) -> bytes:
    return compress(write_cpio(tree), config.compression, config.compression_level)


def _metadata(config: PackageConfig, kernel_version: str, checkpoint: Path) -> dict[str, Any]:
    """Return the EIF's metadata section: not measured, but part of the file's bytes, so nothing varies."""
    return {
        "ImageName": config.image_name,
        "ImageVersion": config.image_version,
        "BuildMetadata": {
            "BuildTime": BUILD_TIME,
            "BuildTool": "rawgpt",
            "BuildToolVersion": BUILD_TOOL_VERSION,
            "OperatingSystem": "Debian 12",
            "KernelVersion": kernel_version,
        },
        "DockerInfo": {},
        "CustomMetadata": {"checkpoint_sha256": _sha256(checkpoint / "manifest.json")},
    }


def _measured(config: PackageConfig, checkpoint: Path, init: bytes, ours: Tree) -> dict[str, Any]:
    """Return what is known of an image in either case."""
    whole = ours | {"init": file(init, 0o755)}
    model_config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return {
        "image_name": config.image_name,
        "image_version": config.image_version,
        "booted": False,
        "note": NOTE,
        "is_signed": False,
        "payload_sha384": hashlib.sha384(write_cpio(whole)).hexdigest(),
        "init": {"sha256": hashlib.sha256(init).hexdigest(), "compiler": compiler_name()},
        "checkpoint_sha256": _sha256(checkpoint / "manifest.json"),
        "checkpoint_stage": model_config["stage"],
        "compression": {
            "method": config.compression,
            "level": config.compression_level,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
        },
    }
