"""The dials of the enclave image."""

from dataclasses import dataclass
from typing import Literal

NITRO_CMDLINE = (
    "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp "
    "i8042.dumbkbd random.trust_cpu=on"
)
"""What nitro-cli passes to an x86-64 guest's kernel; measured in PCR0 and PCR1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageConfig:
    """One enclave image. Everything here but the name, the version and the memory rule is measured."""

    image_name: str
    """ImageName of the EIF's metadata."""
    image_version: str
    """ImageVersion of the EIF's metadata."""
    kernel: str
    """Data registry entry of the Debian kernel package."""
    cmdline: str = NITRO_CMDLINE
    """Kernel command line."""
    compression: Literal["gzip", "none"] = "gzip"
    """Of the ramdisks."""
    compression_level: int = 6
    """gzip level, 1 (fast) to 9 (small)."""
    memory_multiple: float = 4.0
    """Least enclave memory in sizes of the EIF; nitro-cli refuses less than 4. The guest may need more."""

    def __post_init__(self) -> None:
        if not 1 <= self.compression_level <= 9:
            raise ValueError(f"compression_level: 1 to 9, got {self.compression_level}")
        if self.memory_multiple < 4:
            raise ValueError(f"memory_multiple: nitro-cli needs at least 4.0, got {self.memory_multiple}")
        if not self.cmdline.isascii() or not self.cmdline.isprintable():
            raise ValueError(f"cmdline: printable ASCII on one line is needed, got {self.cmdline!r}")
