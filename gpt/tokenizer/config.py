"""The dials of the tokenizer."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizeConfig:
    """Byte-level BPE, trained on the corpus's train split."""

    vocab_size: int
    """V: 256 bytes + merges + special tokens."""
    pattern: Literal["gpt2"]
    """Split pattern in front of the merges."""

    def __post_init__(self) -> None:
        if self.vocab_size < 300:
            raise ValueError(
                f"vocab_size: at least 300 (256 bytes and special tokens), got {self.vocab_size}"
            )
