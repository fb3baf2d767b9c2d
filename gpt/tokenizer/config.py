"""The dials of the tokenizer."""

from dataclasses import dataclass
from typing import Literal

from gpt.workers.config import WorkersConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizeConfig:
    """What stands between text and ids."""

    kind: Literal["trained", "gpt2", "gguf", "char"]
    """trained: byte-level BPE, trained on the corpus's train split. gpt2: GPT-2's own vocabulary, of the sets
    gpt2_bpe_encoder and gpt2_bpe_vocab in fetch.extras. gguf: that of the one model (smollm2-135m) in
    fetch.extras. char: the characters of the corpus."""
    vocab_size: int
    """V: ids, special tokens included. Of the others than trained: ids that the vocabulary leaves over stay
    unused."""
    pattern: Literal["gpt2", "modern"]
    """Split pattern in front of the merges; char has none and reads `gpt2`."""
    processes: int
    """Processes that count words; 0 takes one for each core."""

    def __post_init__(self) -> None:
        if self.vocab_size < 300:
            raise ValueError(
                f"vocab_size: at least 300 (256 bytes and special tokens), got {self.vocab_size}"
            )
        if self.kind != "trained" and self.pattern != "gpt2":
            raise ValueError(f"pattern: {self.pattern} is for kind: trained; write gpt2 with {self.kind}")
        WorkersConfig(processes=self.processes)
