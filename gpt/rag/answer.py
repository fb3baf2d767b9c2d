"""A question answered out of an index: search, prompt, generate, cite.

A citation is a place in a document, found in this order: the numbers in brackets that the model wrote; else
the passages that hold the answer word for word; else the one that shares most of its words. An answer that
shares no word with any passage has no citation, and says so by having none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex
import torch

from gpt.catalog.open_model import OpenModel
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import next_logits
from gpt.generate.generate_text import generate_text
from gpt.model.kv_cache import KVCache
from gpt.rag.config import AnswerConfig
from gpt.rag.features import LETTERS, WORD, words
from gpt.rag.index import Found, Index
from gpt.rag.passages import Passage
from gpt.rag.prompt import Prompt, make_prompt

MORE = 5
"""Passages searched beyond those that are read, to come in for one that is too long."""
UNKNOWN = "I do not know: the documents say too little about it."
MARKER = re.compile(r"\s*\[(\d+)\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Citation:
    """Where an answer stands."""

    number: int
    """The passage's number in the prompt, from 1."""
    passage: Passage
    start: int
    """First character, in the document, of what is quoted."""
    end: int
    found_by: Literal["marker", "verbatim", "overlap"]

    @property
    def quote(self) -> str:
        """The cited words."""
        return self.passage.text[self.start - self.passage.start : self.end - self.passage.start]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a question got."""

    text: str
    is_known: bool
    """False: the best passage's coverage was below the dial, and no model was asked."""
    citations: tuple[Citation, ...]
    found: tuple[Found, ...]
    """What retrieval handed over, best first, as far as it was looked at."""
    read: tuple[Found, ...]
    """Those of them that the prompt held: numbered from 1, as the citations are."""

    @property
    def coverage(self) -> float:
        """The most of the question's weight that one passage holds, 0..1."""
        return max((one.coverage for one in self.found), default=0.0)

    def numbered(self) -> list[tuple[int | None, Found]]:
        """Return each passage found with its number in the prompt; those not read behind, without one."""
        unread = [(None, one) for one in self.found if one not in self.read]
        return [*enumerate(self.read, 1), *unread]


def answer(question: str, index: Index, opened: OpenModel, config: AnswerConfig) -> Answer:
    """Answer a question, greedily. Raises ValueError for an empty one."""
    if not question.strip():
        raise ValueError("question: it is empty; ask something")
    found = tuple(index.search(question, config.n_passages + MORE))
    nearest = found[: config.n_passages]
    unknown = Answer(text=UNKNOWN, is_known=False, citations=(), found=nearest, read=())
    if unknown.coverage < config.min_coverage:
        return unknown
    prompt = make_prompt(
        opened.tokenizer, question, [f.passage for f in found], config, opened.model.config.max_seq_len
    )
    is_read = [one.passage in prompt.passages for one in found]
    last = len(found) - is_read[::-1].index(True)  # those passed over belong to it, those behind do not
    n_seen = max(config.n_passages, last)
    text = generate_answer(opened, prompt, config)
    return Answer(
        text=text,
        is_known=True,
        citations=cite(text, prompt.passages),
        found=found[:n_seen],
        read=tuple(one for one, flag in zip(found, is_read, strict=True) if flag),
    )


def generate_answer(opened: OpenModel, prompt: Prompt, config: AnswerConfig) -> str:
    """Return the first line that is not blank of the likeliest text, without white space around it.

    A chat model may end at once behind a plain prompt. That is no answer, so then the likeliest beginning
    with a word in it is taken.
    """
    text = _first_line(opened, prompt.ids, "", config.max_tokens)
    if not text and config.max_tokens > 1:
        beginning = _word_beginning(opened, prompt.ids)
        written = opened.tokenizer.decode([beginning])
        text = _first_line(opened, [*prompt.ids, beginning], written, config.max_tokens - 1)
    return text


def _first_line(opened: OpenModel, ids: list[int], text: str, max_tokens: int) -> str:
    """Go on with `text`, whose last token ends `ids`; return its first line that is not blank."""
    sampling = SamplingConfig(max_tokens=max_tokens, seed=0, temperature=0.0)
    for piece in generate_text(opened.model, opened.tokenizer, ids, sampling, device=opened.device):
        text += piece.text
        if "\n" in text.lstrip():
            break
    return text.strip().partition("\n")[0].rstrip()


def _word_beginning(opened: OpenModel, ids: list[int]) -> int:
    """Return the likeliest next token that holds a letter or a digit."""
    cache = KVCache(opened.model.config, 1, device=opened.device, dtype=opened.model.embed.weight.dtype)
    logits = next_logits(opened.model, torch.tensor([ids], device=opened.device), cache)  # (V,)
    special = set(opened.tokenizer.special_tokens.values())
    ranked = logits.argsort(descending=True).tolist()
    return next(i for i in ranked if i not in special and words(opened.tokenizer.decode([i])))


def cite(text: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """Return the places in the passages, numbered from 1, that an answer rests on."""
    marked = [n for n in dict.fromkeys(map(int, MARKER.findall(text))) if 1 <= n <= len(passages)]
    bare = MARKER.sub("", text).strip()
    if marked:
        return tuple(_citation(n, passages[n - 1], bare, "marker") for n in marked)
    holding = [n for n, passage in enumerate(passages, 1) if _find(bare, passage) is not None]
    if holding:
        return tuple(_citation(n, passages[n - 1], bare, "verbatim") for n in holding)
    own = set(words(bare))
    shared = [len(own & set(words(passage.text))) for passage in passages]
    if not any(shared):
        return ()
    best = shared.index(max(shared))
    return (_citation(best + 1, passages[best], bare, "overlap"),)


def _citation(
    number: int, passage: Passage, text: str, found_by: Literal["marker", "verbatim", "overlap"]
) -> Citation:
    """Cite the words themselves where the passage holds them, else the whole passage."""
    start, end = _find(text, passage) or (passage.start, passage.end)
    return Citation(number=number, passage=passage, start=start, end=end, found_by=found_by)


def _find(text: str, passage: Passage) -> tuple[int, int] | None:
    """Return where a passage holds the words of a text, in characters of the document: case, punctuation and
    white space between words aside. None where it does not, or the text has no word."""
    own = WORD.findall(text)
    if not own:
        return None
    between = f"[^{LETTERS}]+"
    pattern = f"(?<![{LETTERS}])" + between.join(map(regex.escape, own)) + f"(?![{LETTERS}])"
    match = regex.search(pattern, passage.text, regex.IGNORECASE)
    return (passage.start + match.start(), passage.start + match.end()) if match else None
