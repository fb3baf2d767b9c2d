"""One request inside the batch engine: what it asked for, what it knows, what of that is in the cache."""

from collections.abc import Collection, Sequence

from gpt.generate.block_pool import block_digest
from gpt.generate.config import SamplingConfig
from gpt.generate.sampling import Sampler


class Request:
    """One request inside the engine; equal only to itself."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingConfig,
        stop_ids: Collection[int],
        n_alternatives: int,
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.sampling = sampling
        self.stop_ids = frozenset(stop_ids)
        self.n_alternatives = n_alternatives
        self.token_ids: list[int] = []
        """Generated so far."""
        self.n_cached_prompt_tokens = 0
        """Prompt tokens that were in the cache already when it read its prompt."""
        self.sampler = Sampler(sampling)
        self.known_ids = list(prompt_ids)
        """The prompt and what was generated."""
        self.seen = set(prompt_ids)
        self.n_computed = 0
        """Of known_ids: those whose keys and values are in `blocks`."""
        self.blocks: list[int] = []
        self.digests: list[bytes] = []
        """Of the blocks that are full and can be shared."""

    @property
    def n_fresh(self) -> int:
        """Known tokens that were not computed yet; 1 while it generates."""
        return len(self.known_ids) - self.n_computed

    @property
    def last_id(self) -> int:
        """The last computed token, -1 at the start."""
        return self.known_ids[self.n_computed - 1] if self.n_computed else -1

    def fresh_ids(self, n: int) -> list[int]:
        """Return the next n tokens to compute."""
        return self.known_ids[self.n_computed : self.n_computed + n]

    def add(self, token_id: int) -> None:
        """Take in a generated token."""
        self.token_ids.append(token_id)
        self.known_ids.append(token_id)
        self.seen.add(token_id)

    def next_digest(self, digests: Sequence[bytes], size: int) -> bytes:
        """Return the digest of the block of `size` tokens behind those of `digests`."""
        ids = self.known_ids[len(digests) * size : (len(digests) + 1) * size]
        return block_digest(digests[-1] if digests else b"", ids)
