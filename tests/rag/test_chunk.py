"""Passages stand where they say, and together hold the whole text."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.rag.chunk import chunk_document, sentences
from gpt.rag.config import ChunkConfig
from gpt.rag.passages import Document
from tests.rag.small_documents import CHUNK, DOCUMENTS, count_words


def test_sentences_by_hand() -> None:
    """Guards: a sentence cut at a decimal point, a closing quote on the wrong side, a danda or a blank line
    that ends nothing."""
    text = 'He paid 2.5 rupees. "Why?" she said.\n\nTitle\n\nपैसा आया। ठीक है।'
    found = [text[a:b] for a, b in sentences(text)]
    assert found == ["He paid 2.5 rupees.", '"Why?"', "she said.", "Title", "पैसा आया।", "ठीक है।"]


def test_passages_by_hand() -> None:
    """Guards: an overlap of half a sentence, a passage of old sentences alone, a line counted from 0.

    Sentences of 3, 4, 5 and 3 words and an overlap of 4. At most 8: the second sentence and the third have no
    room together, so nothing overlaps. At most 9: they have; the third is too long to be shared.
    """
    text = "One two three.\nOne two three four. One two three four five. One two three."
    config = ChunkConfig(max_tokens=8, overlap_tokens=4)
    passages = chunk_document(Document(id="d", text=text), config, count_words)
    assert [p.text for p in passages] == [
        "One two three.\nOne two three four.",
        "One two three four five. One two three.",
    ]
    assert [p.line for p in passages] == [1, 2]
    config = ChunkConfig(max_tokens=9, overlap_tokens=4)
    passages = chunk_document(Document(id="d", text=text), config, count_words)
    assert [p.text for p in passages] == [
        "One two three.\nOne two three four.",
        "One two three four. One two three four five.",
        "One two three.",
    ]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab .!?\n\tप।é", max_size=300), st.integers(8, 20), st.integers(0, 4))
def test_offsets_round_trip_and_nothing_is_lost(text: str, size: int, overlap: int) -> None:
    """Guards: a citation that points beside its words; a sentence in no passage; a loop without end."""
    document = Document(id="d", text=text)
    passages = chunk_document(document, ChunkConfig(max_tokens=size, overlap_tokens=overlap), len)
    covered = set()
    for passage in passages:
        assert text[passage.start : passage.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert passage.line == text[: passage.start].count("\n") + 1
        covered |= set(range(passage.start, passage.end))
    assert {i for i, char in enumerate(text) if not char.isspace()} <= covered
    assert all(a.start < b.start and a.end < b.end for a, b in itertools.pairwise(passages))


def test_a_long_line_without_a_stop_is_halved() -> None:
    """Guards: a recursion without end where the parts' counts add up to the limit and the whole is over it,
    which verse did; a word of 1,000 characters that no passage holds."""

    def count(text: str) -> int:
        return len(text.split()) + text.count("\n")

    for text in ("word\n" * 100, "x" * 1000):
        config = ChunkConfig(max_tokens=8, overlap_tokens=0)
        passages = chunk_document(Document(id="d", text=text), config, count if "\n" in text else len)
        assert all(len(p.text.split()) <= 8 and len(p.text) <= 40 for p in passages)
        assert "".join("".join(p.text.split()) for p in passages) == "".join(text.split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.id)
def test_small_documents(document: Document) -> None:
    """Guards: a passage over the limit."""
    for passage in chunk_document(document, CHUNK, count_words):
        assert count_words(passage.text) <= CHUNK.max_tokens
