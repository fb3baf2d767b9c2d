"""The texts that tokenizers are compared on: two to train on, six held out. Not a benchmark.

English: books_a without Shakespeare, whole books in an order drawn once. Domain: the real Hinglish of two
training sets, and generated support chats and payment log lines, each line once. Held out: novels of which
no probed passage stands in the training text, and of everything else the lines that training does not hold.
What is generated comes from one grammar on both sides, with another seed: figures on it are about it.
"""

import bz2
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpt.corpus.clean import clean
from gpt.corpus.hinglish import generate_chats, generate_payment_logs
from gpt.corpus.log_record import record_texts
from gpt.corpus.registry import fetch
from gpt.corpus.split import unit_hash

TRAIN_SEED, HELD_OUT_SEED = 1, 2
N_CHATS, N_PAYMENT_LOGS = 8_000, 16_000
N_NOVELS, NOVEL_CHARACTERS = 20, 100_000
N_PROBES, PROBE_CHARACTERS = 40, 60
DEVANAGARI = re.compile("[\u0900-\u097f]")
NOT_SAID = ("<SILENCE>", "api_call")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """One set to measure on."""

    texts: list[str]
    """The units that a standard error is taken over."""
    description: str
    is_synthetic: bool = False


def english_text(n_bytes: int) -> list[str]:
    """Return books of together `n_bytes`; the last one is cut. Raises ValueError when there are fewer."""
    books = [book for book in _records("books_a") if "Shakespeare" not in book["source"]]
    texts: list[str] = []
    wanted = n_bytes
    for book in sorted(books, key=lambda book: unit_hash(book["source"], TRAIN_SEED)):
        content = clean(book["text"]).encode()[:wanted]
        texts.append(content.decode("utf-8", errors="ignore"))  # a cut may fall inside a character
        wanted -= len(content)
        if not wanted:
            return texts
    raise ValueError(f"--train-mb: the books hold {wanted:,} bytes too few; lower it")


def hinglish_text() -> list[str]:
    """Return the real Hinglish of the training side, each line once."""
    commands = (record["cs_query"].strip() for record in _records("hinglish_top_train"))
    return _once([*_turns("codemixed_dstc2_hi_trn"), *commands])


def generated_text() -> list[str]:
    """Return the generated chats' messages and payment logs of the training side, each once."""
    chats = generate_chats(N_CHATS, seed=TRAIN_SEED, planted_fraction=0.0)
    logs = generate_payment_logs(N_PAYMENT_LOGS, seed=TRAIN_SEED, planted_fraction=0.0)
    messages = (text for chat in chats for text in record_texts(chat.record))
    return _once([*messages, *(log.record["text"] for log in logs)])


def held_out_sets(english: list[str], domain: list[str]) -> dict[str, HeldOut]:
    """Return the sets by name; none of their lines stands in `domain`, none of the novels in `english`."""
    known = set(domain)
    chats = generate_chats(2 * N_CHATS, seed=HELD_OUT_SEED, planted_fraction=0.0)
    messages = [text for chat in chats for text in record_texts(chat.record)]
    logs = generate_payment_logs(N_PAYMENT_LOGS // 10, seed=HELD_OUT_SEED, planted_fraction=0.0)
    commands = [record["cs_query"].strip() for record in _records("hinglish_top_validation")]
    shakespeare = clean(fetch("tinyshakespeare").read_text(encoding="utf-8"))
    part = len(shakespeare) // N_NOVELS + 1
    return {
        "novels": HeldOut(
            texts=novels(english),
            description=f"English novels, {NOVEL_CHARACTERS:,} characters out of the middle of each",
        ),
        "Shakespeare": HeldOut(
            texts=[shakespeare[at : at + part] for at in range(0, len(shakespeare), part)],
            description="tiny Shakespeare, equal parts",
        ),
        "Hinglish dialogs": HeldOut(
            texts=_fresh(_turns("codemixed_dstc2_hi_dev"), known),
            description="codemixed_dstc2_hi_dev, lines that its training part lacks",
        ),
        "Hinglish commands": HeldOut(
            texts=_fresh(commands, known), description="hinglish_top_validation, cs_query"
        ),
        "payment logs": HeldOut(
            texts=_fresh([log.record["text"] for log in logs], known),
            description="generated log lines",
            is_synthetic=True,
        ),
        "Devanagari": HeldOut(
            texts=_fresh([m for m in messages if 3 * len(DEVANAGARI.findall(m)) > len(m)], known),
            description="generated chat messages, more than a third Devanagari letters",
            is_synthetic=True,
        ),
    }


def novels(english: list[str]) -> list[str]:
    """Return the middles of the first N_NOVELS novels of which no probed passage stands in `english`."""
    trained_on = " ".join(_letters(text) for text in english)
    chosen: list[str] = []
    for novel in _records("novels"):
        text = clean(novel["text"])
        if not shares_passage(text, trained_on):
            middle = len(text) // 2
            chosen.append(text[middle : middle + NOVEL_CHARACTERS])
        if len(chosen) == N_NOVELS:
            return chosen
    raise ValueError(f"--train-mb: only {len(chosen)} novels are not in the training text; lower it")


def shares_passage(text: str, letters: str) -> bool:
    """Tell whether one of N_PROBES passages, evenly spread, stands in `letters`; case and marks aside."""
    plain = _letters(text)
    step = max(1, (len(plain) - PROBE_CHARACTERS) // N_PROBES)
    starts = range(0, len(plain) - PROBE_CHARACTERS + 1, step)
    return any(plain[at : at + PROBE_CHARACTERS] in letters for at in starts)


def _letters(text: str) -> str:
    """Return lower-case words with one space between them: editions differ in marks and line ends."""
    return " ".join(re.findall("[a-z]+", text.lower()))


def _records(name: str) -> list[dict[str, Any]]:
    with bz2.open(fetch(name), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _turns(name: str) -> list[str]:
    """Return what the two sides of Code-Mixed-Dialog say, without the machine's calls."""
    turns = [turn for record in _records(name) for turn in record["turns"]]
    said = (turn[side].strip() for turn in turns for side in ("user", "assistant"))
    return [line for line in said if not line.startswith(NOT_SAID)]


def _once(lines: Iterable[str]) -> list[str]:
    return [line for line in dict.fromkeys(lines) if line]


def _fresh(lines: Iterable[str], known: set[str]) -> list[str]:
    return [line for line in _once(lines) if line not in known]
