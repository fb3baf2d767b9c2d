"""The generator: labelled, repeatable, varied, in the record format."""

from itertools import islice

from gpt.corpus.hinglish import generate_chats, generate_payment_logs, grammar
from gpt.corpus.log_counts import distinct_n
from gpt.corpus.log_record import record_texts
from tests.corpus.records import check_record


def test_generated_records_are_whole_and_labelled() -> None:
    """An unfilled {slot} or an unlabelled synthetic record would reach the model as real."""
    made = list(generate_chats(500, seed=2, planted_fraction=0.4))
    made += generate_payment_logs(500, seed=2, planted_fraction=0.4)
    for draft in made:
        check_record(draft.record)
        assert draft.record["synthetic"] is True
        text = " ".join(record_texts(draft.record))
        assert not set("{}\ue000\ue001") & set(text), text
        assert len(draft.record.get("messages", "12")) in (2, 4, 6)
    share = sum(bool(g.planted) for g in made) / len(made)
    assert 0.33 < share < 0.47  # 0.4 +- 4 standard deviations of 1,000 draws


def test_same_seed_same_records_and_more_keep_the_first() -> None:
    """A generator that shares one random stream would change every record when n changes."""
    few = list(generate_chats(50, seed=7, planted_fraction=0.4))
    assert few == list(islice(generate_chats(500, seed=7, planted_fraction=0.4), 50))
    assert few != list(generate_chats(50, seed=8, planted_fraction=0.4))


def test_chats_are_varied() -> None:
    """Distinct 1- and 2-grams by hand, and a floor: templates alone would repeat whole chats."""
    assert distinct_n(["a b a b"], 1) == 0.5
    assert distinct_n(["a b a b"], 2) == 2 / 3
    texts = [" ".join(record_texts(g.record)) for g in generate_chats(1000, seed=1, planted_fraction=0.4)]
    assert len(set(texts)) >= 995
    assert distinct_n(texts, 2) > 0.2
    assert any("\u0900" <= character <= "\u097f" for text in texts for character in text)


def test_every_piece_of_the_grammar_exists() -> None:
    """A piece named in the grammar and not defined would fail in one chat of ten thousand."""
    words = grammar()
    known = set(words["pieces"]) | set(words["facts"]) | {"amount", "ref", "last4"}
    lists = [*words["pieces"].values(), words["log_notes"]]
    lists += [part for scenario in words["scenarios"].values() for part in scenario.values()]
    for items in lists:
        for item in items:
            for name in item.split("{")[1:]:
                name = name.split("}")[0]
                assert name.isupper() or name in known, (name, item)
