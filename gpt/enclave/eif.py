"""The Enclave Image Format, version 4: written, read, described and measured. Unsigned; it boots nothing.

Source: aws-nitro-enclaves-image-format, README and the definitions of its header (facts, not code).
All integers are big-endian. PCRn = SHA384(48 zero bytes || SHA384(content)): PCR0 covers kernel, command
line and every ramdisk; PCR1 kernel, command line and the first ramdisk; PCR2 the other ramdisks. Metadata
and section headers are not measured.
"""

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

MAGIC = b".eif"
VERSION = 4
HEADER = struct.Struct(">4sHHQQHH32Q32QII")
CRC_AT = HEADER.size - 4
SECTION = struct.Struct(">HHQ")
MAX_SECTIONS = 32
DEFAULT_MEMORY_BYTES = 2**30
DEFAULT_CPUS = 2
KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
KINDS = {1: "kernel", 2: "cmdline", 3: "ramdisk", 4: "signature", 5: "metadata"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """What an EIF holds."""

    kernel: bytes
    cmdline: bytes
    """Without a closing NUL."""
    ramdisks: tuple[bytes, ...]
    metadata: dict[str, Any]

    def pcrs(self) -> dict[str, str]:
        """Return the measurements {pcr0, pcr1, pcr2} in lower-case hex."""
        base = (self.kernel, self.cmdline)
        return {
            "pcr0": pcr(*base, *self.ramdisks),
            "pcr1": pcr(*base, *self.ramdisks[:1]),
            "pcr2": pcr(*self.ramdisks[1:]),
        }


def pcr(*contents: bytes) -> str:
    """Extend a zeroed SHA-384 register once by the hash of the contents; lower-case hex."""
    inner = hashlib.sha384()
    for content in contents:
        inner.update(content)
    return hashlib.sha384(bytes(48) + inner.digest()).hexdigest()


def write_eif(image: Image) -> bytes:
    """Return the file's bytes, sections in AWS's order; raises ValueError for too many ramdisks."""
    metadata = json.dumps(image.metadata, separators=(",", ":"), sort_keys=True).encode()
    sections: list[tuple[int, bytes]] = [
        (KERNEL, image.kernel),
        (CMDLINE, image.cmdline),
        (METADATA, metadata),
        *((RAMDISK, ramdisk) for ramdisk in image.ramdisks),
    ]
    if not image.ramdisks or len(sections) > MAX_SECTIONS:
        raise ValueError(f"ramdisks: 1 to {MAX_SECTIONS - 3} fit an EIF, got {len(image.ramdisks)}")
    offsets, sizes, body = [0] * MAX_SECTIONS, [0] * MAX_SECTIONS, bytearray()
    for i, (kind, data) in enumerate(sections):
        offsets[i], sizes[i] = HEADER.size + len(body), len(data)
        body += SECTION.pack(kind, 0, len(data)) + data
    fixed = (MAGIC, VERSION, 0, DEFAULT_MEMORY_BYTES, DEFAULT_CPUS, 0, len(sections))
    header = HEADER.pack(*fixed, *offsets, *sizes, 0, 0)[:CRC_AT]
    return header + struct.pack(">I", zlib.crc32(body, zlib.crc32(header))) + bytes(body)


def read_sections(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, content) of every section; raises ValueError that says what is damaged."""
    if len(data) < HEADER.size or data[:4] != MAGIC:
        raise ValueError("EIF: no '.eif' header; is this an enclave image?")
    fields = HEADER.unpack_from(data)
    if fields[1] != VERSION:
        raise ValueError(f"EIF: version {fields[1]}; this reads version {VERSION}")
    crc = zlib.crc32(memoryview(data)[HEADER.size :], zlib.crc32(data[:CRC_AT]))
    if crc != fields[-1]:
        raise ValueError(f"EIF: damaged, its CRC32 is {crc:08x}, the header says {fields[-1]:08x}")
    n_sections, offsets, sizes = fields[6], fields[7:39], fields[39:71]
    if n_sections > MAX_SECTIONS:
        raise ValueError(f"EIF: {n_sections} sections; at most {MAX_SECTIONS} fit")
    sections, end = [], HEADER.size
    for offset, size in zip(offsets[:n_sections], sizes[:n_sections], strict=True):
        if offset != end or offset + SECTION.size + size > len(data):
            raise ValueError(f"EIF: a section at byte {offset} does not fit the file")
        kind, _, section_size = SECTION.unpack_from(data, offset)
        if section_size != size or kind not in KINDS:
            raise ValueError(f"EIF: the section header at byte {offset} is wrong")
        end = offset + SECTION.size + size
        sections.append((kind, data[offset + SECTION.size : end]))
    if end != len(data):
        raise ValueError(f"EIF: {len(data) - end} bytes follow the last section")
    return sections


def read_eif(data: bytes) -> Image:
    """Read an unsigned or signed image (the signature is left out); raises ValueError."""
    sections = read_sections(data)
    found = {kind: [content for k, content in sections if k == kind] for kind in KINDS}
    for kind in (KERNEL, CMDLINE):
        if len(found[kind]) != 1:
            raise ValueError(f"EIF: {len(found[kind])} {KINDS[kind]} sections, one is needed")
    if not found[RAMDISK]:
        raise ValueError("EIF: no ramdisk section")
    return Image(
        kernel=found[KERNEL][0],
        cmdline=found[CMDLINE][0],
        ramdisks=tuple(found[RAMDISK]),
        metadata=json.loads(found[METADATA][0]) if found[METADATA] else {},
    )


def describe_eif(data: bytes) -> dict[str, Any]:
    """Return what `nitro-cli describe-eif` tells, as plain JSON types."""
    image = read_eif(data)
    sections = read_sections(data)
    return {
        "version": VERSION,
        "cmdline": image.cmdline.decode(),
        "sections": [
            {
                "kind": KINDS[kind],
                "size_bytes": len(content),
                "sha384": hashlib.sha384(content).hexdigest(),
            }
            for kind, content in sections
        ],
        "is_signed": any(kind == SIGNATURE for kind, _ in sections),
        "metadata": image.metadata,
        "pcrs": image.pcrs(),
    }
