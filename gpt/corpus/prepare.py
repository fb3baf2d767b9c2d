"""From raw documents to documents.jsonl: clean, scrub, leave out, split. A corpus may exceed memory.

The raw corpus is spilled to disk, worked on in parts (clean_part), spilled again and read once more for
the result. In memory: one part for each process, and for each document about 500 bytes of digests,
offsets and band keys. Reading the result is gpt/corpus/documents.py.
"""

import hashlib
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt.corpus.clean_part import RAW, CleanPart, PartJob, clean_part
from gpt.corpus.config import FetchConfig
from gpt.corpus.contamination import EvaluationIndex
from gpt.corpus.documents import PART_BYTES, cut_parts
from gpt.corpus.jsonl import jsonl_line, write_jsonl
from gpt.corpus.near_duplicates import near_duplicates
from gpt.corpus.split import cut_text, places_are_val, unit_hash
from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts

VAL_IDS_SHOWN = 200


@dataclass(kw_only=True, slots=True)
class Prepared:
    """What was written, and the counts that were made on the way."""

    rule: str = "by document: the hash of its id and the seed"
    """How the two splits were made, in words."""
    documents: Counter[str] = field(default_factory=Counter)
    """Documents by split."""
    chars: Counter[str] = field(default_factory=Counter)
    """Characters by split."""
    n_bytes: int = 0
    """UTF-8 bytes of all texts."""
    val_ids: list[str] = field(default_factory=list)
    """The first ids of the validation split."""
    languages: Counter[str] = field(default_factory=Counter)
    """Documents by language, of those that were written (gpt/corpus/language.py)."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Documents left out, by rule."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Placeholders put, by kind."""
    contamination: dict[str, dict[str, int | float]] = field(default_factory=dict)
    """Items and contaminated items by evaluation set."""
    n_contaminated: int = 0
    """Documents that hold an evaluation item, dropped or not."""

    def metrics(self) -> dict[str, int | float]:
        """Return the figures of the corpus."""
        return {
            "documents": self.documents.total(),
            "val_documents": self.documents["val"],
            "train_chars": self.chars["train"],
            "val_chars": self.chars["val"],
            "bytes": self.n_bytes,
            **{f"left_out_{rule}": n for rule, n in sorted(self.left_out.items())},
            **{f"language_{language}": n for language, n in sorted(self.languages.items())},
            "redacted": self.redacted.total(),
            **{f"contaminated_{name}": counts["share"] for name, counts in self.contamination.items()},
        }


@dataclass(kw_only=True, slots=True)
class _Spilled:
    """The documents that may stay: where they lie on disk and what is compared between them."""

    offsets: array = field(default_factory=lambda: array("Q"))
    places: array = field(default_factory=lambda: array("d"))
    """unit_hash of each id: its side of the split."""
    languages: list[str] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    texts_seen: set[bytes] = field(default_factory=set)
    ids_seen: set[bytes] = field(default_factory=set)


def prepare(
    raw: Iterable[tuple[str, str]],
    config: FetchConfig,
    target: Path,
    index: EvaluationIndex,
    *,
    part_bytes: int = PART_BYTES,
) -> Prepared:
    """Write `target` from (id, text) pairs. Raises ValueError when nothing is left."""
    made = Prepared()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".spill-") as name:
        folder = Path(name)
        write_jsonl(folder / "documents.jsonl", ({"id": k, "text": t, "split": RAW} for k, t in raw))
        parts = cut_parts(folder, part_bytes)
        jobs = [PartJob(part=part, config=config, index=index) for part in parts]
        spilled, found, n_read = _Spilled(), set[int](), 0
        with (folder / "clean.jsonl").open("wb") as file:
            for part in map_parts(clean_part, jobs, WorkersConfig(processes=config.processes)):
                n_read += part.n_read
                found |= _spill(part, spilled, file, config, made)
        (folder / "documents.jsonl").unlink()
        made.contamination = index.by_set(found)
        dropped = _near_duplicates(folder / "clean.jsonl", spilled, config)
        made.left_out["near_duplicate"] = len(dropped)
        if not spilled.offsets:
            rules = ", ".join(f"{n} {rule}" for rule, n in sorted(made.left_out.items()) if n)
            raise ValueError(
                f"{config.source}: an empty corpus: {n_read} documents were read, {made.left_out['short']} "
                f"of them have fewer than {config.min_chars} characters (left out: {rules or 'none'}); "
                "add text or lower fetch.min_chars"
            )
        staying = [place for place in range(len(spilled.offsets)) if place not in dropped]
        made.languages = Counter(spilled.languages[place] for place in staying)
        _write(folder / "clean.jsonl", target, staying, spilled, config, made)
    return made


def _spill(part: CleanPart, spilled: _Spilled, file: Any, config: FetchConfig, made: Prepared) -> set[int]:
    """Append a part's documents, each text once; return the evaluation items that were found."""
    made.left_out += part.left_out
    made.redacted += part.redacted
    found: set[int] = set()
    kept = []
    for row, (key, text) in enumerate(zip(part.ids, part.texts, strict=True)):
        digest = hashlib.sha256(text.encode()).digest()[:16]
        if digest in spilled.texts_seen:
            made.left_out["repeated"] += 1
            continue
        spilled.texts_seen.add(digest)
        found |= part.items[row]
        made.n_contaminated += bool(part.items[row])
        if part.items[row] and config.contamination == "drop":
            made.left_out["contaminated"] += 1
            continue
        id_digest = hashlib.sha256(key.encode()).digest()[:16]
        if id_digest in spilled.ids_seen:
            raise ValueError(f"{config.source}: two documents have the id '{key}'; make ids unique")
        spilled.ids_seen.add(id_digest)
        spilled.offsets.append(file.tell())
        spilled.places.append(unit_hash(key, config.seed))
        spilled.languages.append(part.languages[row])
        file.write(jsonl_line({"id": key, "text": text}))
        kept.append(row)
    spilled.keys.append(part.keys[kept] if config.near_duplicate_threshold else part.keys)
    return found


def _near_duplicates(path: Path, spilled: _Spilled, config: FetchConfig) -> set[int]:
    if not config.near_duplicate_threshold or len(spilled.offsets) < 2:
        return set()
    with path.open("rb") as file:

        def text_at(place: int) -> str:
            file.seek(spilled.offsets[place])
            return str(json.loads(file.readline())["text"])

        pairs = near_duplicates(
            np.concatenate(spilled.keys),
            text_at,
            threshold=config.near_duplicate_threshold,
            shingle_words=config.shingle_words,
        )
        return {place for place, _ in pairs}


def _write(
    path: Path, target: Path, staying: list[int], spilled: _Spilled, config: FetchConfig, made: Prepared
) -> None:
    """Write the documents that stay with their split; a lone one is cut in two."""
    with path.open("rb") as file:

        def documents() -> Iterator[dict[str, Any]]:
            places = np.array([spilled.places[place] for place in staying])
            is_val = places_are_val(places, val_fraction=config.val_fraction)
            for place, side in zip(staying, is_val, strict=True):
                file.seek(spilled.offsets[place])
                document = json.loads(file.readline())
                if len(staying) > 1:
                    yield {**document, "split": "val" if side else "train"}
                    continue
                made.rule = (
                    "the only document is cut by position at the end of a paragraph: val is its last part"
                )
                halves = cut_text(document["text"], val_fraction=config.val_fraction)
                for split, text in zip(("train", "val"), halves, strict=True):
                    yield {"id": f"{document['id']}:{split}", "text": text, "split": split}

        def counted() -> Iterator[dict[str, Any]]:
            for document in documents():
                split, text = document["split"], document["text"]
                made.documents[split] += 1
                made.chars[split] += len(text)
                made.n_bytes += len(text.encode())
                if split == "val" and len(made.val_ids) < VAL_IDS_SHOWN:
                    made.val_ids.append(document["id"])
                yield document

        write_jsonl(target, counted())
