"""The EIF file against the specification, recomputed here by hand."""

import hashlib
import struct
import zlib

import pytest

from gpt.enclave.eif import Image, describe_eif, read_eif, read_sections, write_eif

KERNEL, CMDLINE, RAMDISKS = b"kernel" * 50, b"console=ttyS0", (b"first" * 9, b"second" * 7, b"third")
IMAGE = Image(kernel=KERNEL, cmdline=CMDLINE, ramdisks=RAMDISKS, metadata={"ImageName": "t", "A": 1})


def register(content: bytes) -> str:
    """Extend 48 zero bytes by the content's hash: a TPM-like register."""
    return hashlib.sha384(b"\0" * 48 + hashlib.sha384(content).digest()).hexdigest()


def with_crc(data: bytes) -> bytes:
    """Return the file with a right checksum, as an attacker would write it."""
    crc = zlib.crc32(data[:544] + data[548:])
    return data[:544] + crc.to_bytes(4, "big") + data[548:]


def test_bytes_are_those_of_the_specification() -> None:
    """Guards field order, byte order and offsets: header of 548 bytes, sections of 12 + size."""
    data = write_eif(IMAGE)
    assert data[:8] == b".eif" + b"\x00\x04" + b"\x00\x00"
    assert struct.unpack(">QQHH", data[8:28]) == (2**30, 2, 0, 6)
    offsets, sizes = struct.unpack(">32Q", data[28:284]), struct.unpack(">32Q", data[284:540])
    metadata = b'{"A":1,"ImageName":"t"}'
    contents = [(1, KERNEL), (2, CMDLINE), (5, metadata), *((3, ramdisk) for ramdisk in RAMDISKS)]
    at = 548
    for i, (kind, content) in enumerate(contents):
        assert (offsets[i], sizes[i]) == (at, len(content))
        assert data[at : at + 12] == struct.pack(">HHQ", kind, 0, len(content))
        assert data[at + 12 : at + 12 + len(content)] == content
        at += 12 + len(content)
    assert at == len(data)
    assert offsets[6:] + sizes[6:] == (0,) * 52
    assert int.from_bytes(data[544:548], "big") == zlib.crc32(data[:544] + data[548:])


def test_pcrs_equal_the_registers_of_the_specification() -> None:
    """Guards a measurement that covers the wrong sections."""
    assert describe_eif(write_eif(IMAGE))["pcrs"] == {
        "pcr0": register(KERNEL + CMDLINE + b"".join(RAMDISKS)),
        "pcr1": register(KERNEL + CMDLINE + RAMDISKS[0]),
        "pcr2": register(RAMDISKS[1] + RAMDISKS[2]),
    }


def test_round_trip_and_equal_bytes() -> None:
    """Guards a reader that differs from the writer, and any clock or random byte in the file."""
    data = write_eif(IMAGE)
    assert read_eif(data) == IMAGE
    assert write_eif(IMAGE) == data


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_any_flipped_byte_is_refused_and_changes_pcr0(kind: int) -> None:
    """Guards content that can change without its measurement changing."""
    data = write_eif(IMAGE)
    at = 548
    for section, content in read_sections(data):
        if section == kind:
            for byte in range(at + 12, at + 12 + len(content)):
                flipped = data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :]
                with pytest.raises(ValueError, match="CRC32"):
                    read_eif(flipped)
                assert read_eif(with_crc(flipped)).pcrs()["pcr0"] != IMAGE.pcrs()["pcr0"]
        at += 12 + len(content)


def test_metadata_is_not_measured() -> None:
    """Guards a name or version that would change the PCRs which a verifier pins."""
    other = Image(kernel=KERNEL, cmdline=CMDLINE, ramdisks=RAMDISKS, metadata={"ImageName": "u"})
    assert other.pcrs() == IMAGE.pcrs()
    assert write_eif(other) != write_eif(IMAGE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"MZ" + data[2:], "no '.eif' header"),
        (lambda data: data[:300], "no '.eif' header"),
        (lambda data: with_crc(data[:5] + b"\3" + data[6:]), "version 3"),
        (lambda data: with_crc(data + b"more"), "4 bytes follow"),
        (lambda data: with_crc(data[:-1]), "does not fit"),
        (lambda data: with_crc(data[:549] + b"\x09" + data[550:]), "section header at byte 548"),
        (lambda data: with_crc(data[:27] + b"\x40" + data[28:]), "64 sections"),
        (lambda data: with_crc(data[:549] + b"\x03" + data[550:]), "0 kernel sections"),
    ],
)
def test_a_damaged_file_is_refused(damage: object, message: str) -> None:
    """Guards a reader that trusts lengths, with a right checksum over wrong content."""
    with pytest.raises(ValueError, match=message):
        read_eif(damage(write_eif(IMAGE)))  # type: ignore[operator]


@pytest.mark.parametrize("count", [0, 30])
def test_number_of_ramdisks(count: int) -> None:
    """Guards a header that overflows its 32 places."""
    with pytest.raises(ValueError, match=f"got {count}"):
        write_eif(Image(kernel=b"k", cmdline=b"c", ramdisks=(b"r",) * count, metadata={}))
