"""What is done to each document by itself, a part of the raw corpus at a time, in any process."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpt.corpus.clean import clean
from gpt.corpus.config import FetchConfig
from gpt.corpus.contamination import BATCH_CHARS, EvaluationIndex
from gpt.corpus.documents import DocumentPart, read_part
from gpt.corpus.language import tag
from gpt.corpus.near_duplicates import Bands, band_keys
from gpt.corpus.quality import quality_fault
from gpt.corpus.redact import redact

RAW = "raw"
"""What stands for a split in the spilled raw corpus."""
TAGGED_CHARS = 4000
"""A document's language is told by its beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartJob:
    """A part of the raw corpus and what to do with it; pickles."""

    part: DocumentPart
    config: FetchConfig
    index: EvaluationIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanPart:
    """A part's documents that may stay, and the counts of the others."""

    ids: list[str]
    texts: list[str]
    languages: list[str]
    items: list[frozenset[int]]
    """Evaluation items in each document."""
    keys: Bands
    """Band keys (N, bands); no columns when near-duplicates are not looked for."""
    left_out: Counter[str]
    redacted: Counter[str]
    n_read: int


def clean_part(job: PartJob) -> CleanPart:
    """Clean, scrub, judge and fingerprint the documents of a part, in their order."""
    config = job.config
    ids: list[str] = []
    texts: list[str] = []
    left_out: Counter[str] = Counter()
    redacted: Counter[str] = Counter()
    n_read = 0
    for document in read_part(job.part, RAW):
        n_read += 1
        key, text = document["id"], clean(document["text"])
        if config.redact:
            key, text, counts = _scrub(key, text)
            redacted += counts
        fault = "short" if len(text) < config.min_chars else quality_fault(text, config.quality)
        if fault is not None:
            left_out[fault] += 1
            continue
        ids.append(key)
        texts.append(text)
    threshold = config.near_duplicate_threshold
    return CleanPart(
        ids=ids,
        texts=texts,
        languages=[tag(text[:TAGGED_CHARS]) for text in texts],
        items=_find_items(texts, job.index),
        keys=band_keys(
            texts if threshold else [], threshold=threshold or 1.0, shingle_words=config.shingle_words
        ),
        left_out=left_out,
        redacted=redacted,
        n_read=n_read,
    )


def _scrub(key: str, text: str) -> tuple[str, str, Counter[str]]:
    """Scrub a text and its id.

    Where anything was found, the part of the id behind `#` becomes the hash of the scrubbed text: a
    record's own id may be a phone number, and the hash of a raw text can be searched for one.
    """
    scrubbed, counts = redact(text)
    plain_key, key_counts = redact(key)
    if counts or key_counts:
        digest = hashlib.sha256(scrubbed.encode()).hexdigest()[:16]
        plain_key = f"{plain_key.rpartition('#')[0] or plain_key}#{digest}"
    return plain_key, scrubbed, counts


def _find_items(texts: Sequence[str], index: EvaluationIndex) -> list[frozenset[int]]:
    """Look for evaluation items, some texts at a time: the arrays of one call stay small."""
    found: list[frozenset[int]] = []
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > BATCH_CHARS:
            found += index.find(batch)
            batch, size = [], 0
    return found + index.find(batch)
