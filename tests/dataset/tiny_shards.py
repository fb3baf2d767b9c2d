"""Shard folders out of token lists, for tests that need one and not an encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gpt.dataset.shard_file import ShardWriter
from gpt.dataset.shard_set import write_shard_set

FINGERPRINT = "0123456789abcdef"
RUN = "fedcba9876543210"
Documents = Sequence[Sequence[int]]


def write_tiny_shards(
    folder: Path,
    splits: Mapping[str, Sequence[Documents]],
    *,
    n_vocab: int = 300,
    end_of_text: int = 9,
    fingerprint: str = FINGERPRINT,
    run: str = RUN,
) -> Path:
    """Write each split's shards, each a list of documents of ids; an empty shard is a gap in the order."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = []
    for split, shards in sorted(splits.items()):
        for ordinal, documents in enumerate(shards):
            if not documents:
                continue
            with ShardWriter(
                folder,
                split=split,
                ordinal=ordinal,
                n_vocab=n_vocab,
                end_of_text=end_of_text,
                tokenizer_fingerprint=fingerprint,
                run=run,
            ) as writer:
                for document in documents:
                    writer.add(np.asarray(document, dtype=np.uint32))
                headers.append(writer.finish())
    write_shard_set(folder, headers)
    return folder
