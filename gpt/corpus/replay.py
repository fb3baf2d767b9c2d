"""English to repeat while a model learns logs, so that it does not forget: passages and instructions.

Replay as in Robins 1995 and, for language models, Ibrahim et al. 2024 (arXiv 2403.08763, section 4.2): a
share of the old data beside the new. Here the pool is made; `finetune.data.replay_fraction` takes from it.
Passages are of the training side of what fetch read, so no validation text is learned.
"""

import hashlib
import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt.corpus.documents import read_split
from gpt.corpus.split import unit_hash

PASSAGE_CHARS = 700
"""About as long as a chat: a passage fits a training sequence of the laptop."""


def passages(files: Path, *, most: int, seed: int) -> list[dict[str, Any]]:
    """Return `most` passages of the training documents of a fetch folder, chosen by hash, in that order."""
    found = (
        (unit_hash(hashlib.sha256(text.encode()).hexdigest(), seed), text)
        for document in read_split(files, "train")
        for text in cut_passages(document["text"])
    )
    chosen = dict.fromkeys(text for _, text in heapq.nsmallest(most, found))
    return [
        {
            "id": f"passage-{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "kind": "text",
            "source": "fetch",
            "synthetic": False,
            "text": text,
        }
        for text in chosen
    ]


def cut_passages(text: str) -> Iterator[str]:
    """Cut a text into passages of about PASSAGE_CHARS, at ends of lines; what is left over is not used.

    A line longer than twice that is cut between words.
    """
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        held.append(line)
        size += len(line) + 1
        if size < PASSAGE_CHARS:
            continue
        passage = "\n".join(held).strip()
        while len(passage) > 2 * PASSAGE_CHARS:
            at = passage.rfind(" ", 1, PASSAGE_CHARS)
            at = at if at > 0 else PASSAGE_CHARS
            yield passage[:at]
            passage = passage[at:].strip()
        if len(passage) >= PASSAGE_CHARS // 2:
            yield passage
        held, size = [], 0
