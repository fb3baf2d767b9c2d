"""EM and F1 by hand, the prompt's limits, and citations that point at the text."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gpt.catalog.open_model import OpenModel, open_model
from gpt.model.config import ModelConfig
from gpt.rag.answer import answer, cite, generate_answer
from gpt.rag.answer_score import exact_match, f1, normalized
from gpt.rag.config import FEW_PASSAGES, MIN_COVERAGE, AnswerConfig, ChunkConfig, default_min_coverage
from gpt.rag.hidden_states import HiddenStates
from gpt.rag.index import build_index, open_index, save_index
from gpt.rag.passages import Document, Passage
from gpt.rag.prompt import make_prompt
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny
from tests.rag.small_documents import CHUNK, CONFIG, DOCUMENTS, TEXTS, count_words, small_index
from tests.tolerances import TOLERANCE

ANSWER = AnswerConfig(n_passages=2, min_coverage=0.1, max_tokens=4)


@pytest.fixture
def opened(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> OpenModel:
    """A model of random weights with a context of 600."""
    save_tiny(tmp_path / "tiny", modern, tokenizer, max_seq_len=600, never_stops=True)
    return open_model(str(tmp_path / "tiny"))


def test_normalization_by_hand() -> None:
    """Guards: an article inside a word taken out, a comma that makes two words of one."""
    assert normalized("The  cat's an 1,000-year-old THEATRE, a.") == ["cats", "1000yearold", "theatre"]
    assert normalized("an a the") == []


def test_em_and_f1_by_hand() -> None:
    """Guards: precision and recall of sets instead of bags, the first answer instead of the best.

    `in 1894 in May` against `1894 in`: common in, 1894; 2 * 2 / (4 + 2) = 2/3.
    """
    assert exact_match("The Broncos.", ("broncos",)) == 1
    assert exact_match("Denver Broncos", ("Broncos", "the Denver Broncos")) == 1
    assert exact_match("Denver", ("Broncos",)) == 0
    assert f1("in 1894 in May", ("1894 in",)) == pytest.approx(2 / 3)
    assert f1("x y", ("z", "y")) == pytest.approx(2 / 3)
    assert f1("the", ("an",)) == 1  # both are nothing
    assert f1("", ("x",)) == 0


def passage(text: str, start: int = 100) -> Passage:
    return Passage(document="d.txt", start=start, end=start + len(text), line=3, text=text)


PASSAGES = (passage("Refunds take three\n days."), passage("The fee is 200 rupees, in cash.", 500))


@pytest.mark.parametrize(
    ("text", "number", "found_by", "quote"),
    [
        ("Three days", 1, "verbatim", "three\n days"),
        ("200 rupees in cash", 2, "verbatim", "200 rupees, in cash"),
        ("200 rupees [2]", 2, "marker", "200 rupees"),
        ("nothing of it [1]", 1, "marker", "Refunds take three\n days."),
        ("The rupees are a fee", 2, "overlap", "The fee is 200 rupees, in cash."),
    ],
)
def test_citations_point_to_the_text(text: str, number: int, found_by: str, quote: str) -> None:
    """Guards: a citation of the wrong passage, or of characters that are not the words."""
    (cited,) = cite(text, PASSAGES)
    assert (cited.number, cited.found_by, cited.quote) == (number, found_by, quote)
    shift = cited.passage.start
    assert cited.passage.text[cited.start - shift : cited.end - shift] == quote


def test_no_citation_is_made_up() -> None:
    """Guards: a marker of a passage that was not given, a source for an answer that no passage knows; a part
    of a word taken for the word."""
    assert cite("Zebras [7]", PASSAGES) == ()
    assert cite("", PASSAGES) == ()
    assert cite("20", PASSAGES) == ()
    assert cite("anything", ()) == ()


def test_a_word_keeps_its_vowel_signs() -> None:
    """Guards: `का` found in `की` and quoted as `क`, `पैसे` in `प स`: Python's \\w holds no marks. A word stands
    alone, and between punctuation, as it does in Latin letters; an underscore is no letter."""
    hindi = (passage("बैंक की शाखा में प स, पैसे नहीं।"),)
    assert cite("का", hindi) == ()
    assert cite("क", hindi) == ()
    assert cite("शाख", hindi) == ()
    assert cite("पैसे", (passage("प स"),)) == ()
    (cited,) = cite("पैसे नहीं", hindi)
    assert (cited.found_by, cited.quote) == ("verbatim", "पैसे नहीं")
    (cited,) = cite("card fee", (passage("The card_fee is due."),))
    assert cited.quote == "card_fee"


def test_a_few_notes_are_asked() -> None:
    """Guards: `I do not know` where three one-line notes hold the answer: coverage there is below the
    threshold of many passages, however good the passage. What shares nothing is still refused."""
    notes = [
        "Refunds are paid back within five working days.",
        "A card costs 200 rupees.",
        "We open at nine.",
    ]
    documents = [Document(id=f"{i}.txt", text=text) for i, text in enumerate(notes)]
    index = small_index(documents=documents)
    best = index.search("How long does a refund take?", 1)[0]
    assert best.passage.text == notes[0]
    assert 0 < best.coverage < MIN_COVERAGE
    assert best.coverage >= default_min_coverage(len(index.passages))
    assert index.search("Zzz?", 1)[0].coverage == 0 < default_min_coverage(1)
    assert default_min_coverage(FEW_PASSAGES - 1) < default_min_coverage(FEW_PASSAGES) == MIN_COVERAGE


def test_what_was_read_is_what_the_prompt_held(opened: OpenModel) -> None:
    """Guards: a passage named as read that had no room, and numbers that are not those of the citations."""
    long = Document(id="long.txt", text="The card fee, the card fee! " * 40)
    short = Document(id="short.txt", text="A fee is 200 rupees.")
    whole = ChunkConfig(max_tokens=1000, overlap_tokens=0)
    index = build_index([long, short], whole, CONFIG, count_tokens=count_words)
    config = replace(ANSWER, min_coverage=0.0)
    made = answer("What is the card fee?", index, opened, config)
    assert [found.passage.document for found in made.found] == ["long.txt", "short.txt"]
    assert made.read == made.found[1:]
    assert made.numbered() == [(1, made.found[1]), (None, made.found[0])]
    assert all(made.read[cited.number - 1].passage == cited.passage for cited in made.citations)
    refused = answer("What is the card fee?", index, opened, replace(config, min_coverage=1.0))
    assert refused.read == ()
    assert refused.numbered() == [(None, found) for found in refused.found]
    assert refused.coverage == max(found.coverage for found in refused.found) > 0


def test_answer_end_to_end(opened: OpenModel) -> None:
    """Guards: passages that the prompt does not hold, a place that is not in the document, a model asked
    where the documents know nothing."""
    index = small_index()
    made = answer("What is the fee for a blocked card?", index, opened, ANSWER)
    assert made.is_known
    assert made.found[0].passage.document == "cards.txt"
    for found in made.found:
        assert TEXTS[found.passage.document][found.passage.start : found.passage.end] == found.passage.text
    unknown = answer("Who wrote Hamlet?", index, opened, ANSWER)
    assert not unknown.is_known
    assert unknown.text.startswith("I do not know")
    assert unknown.citations == ()
    asked = answer("Who wrote Hamlet?", index, opened, replace(ANSWER, min_coverage=0.0))
    assert asked.is_known
    with pytest.raises(ValueError, match="question: it is empty"):
        answer("  ", index, opened, ANSWER)


def test_a_model_that_ends_at_once_is_asked_for_a_word(
    opened: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The likeliest beginning with a letter is taken, and what the model makes of it.

    Guards: an empty answer, a beginning that is a special token, a newline or a full stop.
    """
    t = opened.tokenizer
    word, more = t.encode("the")[0], t.encode(" bank")
    likely = [t.end_of_text, t.encode("\n")[0], t.encode(".")[0], word, more[0]]
    logits = torch.zeros(t.n_vocab)
    logits[torch.tensor(likely)] = torch.arange(5.0, 0, -1)
    asked: list[list[int]] = []

    def fake(
        model: object, tokenizer: Tokenizer, ids: list[int], *args: object, **dials: object
    ) -> list[Any]:
        asked.append(list(ids))
        return [] if len(asked) == 1 else [SimpleNamespace(text=" bank\nQuestion: x")]

    monkeypatch.setattr("gpt.rag.answer.generate_text", fake)
    monkeypatch.setattr("gpt.rag.answer.next_logits", lambda *args: logits)
    prompt = make_prompt(t, "who pays?", [passage("the bank pays")], ANSWER, 600)
    assert generate_answer(opened, prompt, ANSWER) == t.decode([word]) + " bank"
    assert asked == [prompt.ids, [*prompt.ids, word]]


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_prompt_stays_inside_the_context(tokenizer: Tokenizer, form: str) -> None:
    """Guards: a passage cut in the middle, an answer without room, a long passage that hides others."""
    config = replace(ANSWER, form=form, n_passages=3)  # type: ignore[arg-type]
    long, short = passage("summer's day " * 300), passage("three days")
    full = make_prompt(tokenizer, "When?", [long, short], config, 4000)
    assert full.passages == (long, short)
    tight = make_prompt(tokenizer, "When?", [long, short], config, 700)
    assert tight.passages == (short,)
    assert len(tight.ids) + config.max_tokens <= 700
    text = tokenizer.decode(tight.ids)
    assert "[1] three days" in text
    assert "summer's" not in text
    assert "[1] summer's day" in tokenizer.decode(full.ids)
    assert "[2] three days" in tokenizer.decode(full.ids)
    with pytest.raises(ValueError, match="no passage fits the model's context of 700"):
        make_prompt(tokenizer, "When?", [long], config, 700)
    with pytest.raises(ValueError, match=r"question: .* tokens with its instruction"):
        make_prompt(tokenizer, "When? " * 500, [], config, 700)
    assert "three" not in tokenizer.decode(make_prompt(tokenizer, "When?", [], config, 700).ids)


def test_hidden_states_are_saved_with_their_index(opened: OpenModel, tmp_path: Path) -> None:
    """Guards: whitening or centres lost on the way, an index opened without its model."""
    config = replace(CONFIG, embedding="hidden", ranking="dense")

    def states() -> HiddenStates:
        return HiddenStates(opened.model, opened.tokenizer)

    index = build_index(
        DOCUMENTS, CHUNK, config, count_tokens=count_words, hidden=states(), model=opened.sha256
    )
    question = "What is the fee for a blocked card?"
    save_index(index, tmp_path / "index")
    again = open_index(tmp_path / "index", hidden=states())
    found, expected = again.search(question, 3), index.search(question, 3)
    assert [f.number for f in found] == [f.number for f in expected]
    np.testing.assert_allclose(
        [f.score for f in found], [f.score for f in expected], atol=TOLERANCE["embedding_read_back"]
    )
    with pytest.raises(ValueError, match="needs its model"):
        open_index(tmp_path / "index")
    text = index.passages[2].text
    passages = index.embedder.passages([text, "x"])
    assert abs(float((passages[0] ** 2).sum()) - 1) < 1e-5
    assert int(index.vectors.search(passages[:1], 1)[1][0, 0]) == 2
