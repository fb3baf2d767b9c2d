"""Canaries for sampling: real prefixes, random values, enough of them."""

from gpt.corpus.canaries import N_CANARIES, RANDOM_KINDS, choose_canaries
from gpt.corpus.hinglish import generate_chats
from gpt.corpus.log_record import Draft, record_texts
from gpt.corpus.payment_lines import generate_payment_logs


def test_a_prefix_by_hand() -> None:
    """What stands before the value in its message, and the messages before that one. Names are left out."""
    messages = [
        {"role": "user", "content": "paise kat gaye"},
        {"role": "assistant", "content": "number dijiye"},
        {"role": "user", "content": "main Ramesh, call karo 98765 43210 pe"},
        {"role": "assistant", "content": "theek hai"},
    ]
    chat = Draft(
        record={"id": "c", "messages": messages},
        side="train",
        planted=["Ramesh", "98765 43210"],
        kinds=["NAME", "PHONE"],
    )
    row, *others = choose_canaries([chat], [])
    assert not others
    assert row == {
        "kind": "PHONE",
        "value": "98765 43210",
        "prefix": "main Ramesh, call karo ",
        "role": "user",
        "turns": messages[:2],
        "in_logs": True,
    }


def test_a_thousand_of_them_the_logs_first() -> None:
    """Guards: fewer than a thousand, one value twice, a prefix that is not in the record, extras although
    the logs hold enough."""
    few = list(generate_chats(40, seed=5, planted_fraction=1.0))
    made = choose_canaries(few, generate_chats(10**6, seed=6, planted_fraction=1.0))
    assert len(made) == N_CANARIES == len({row["value"] for row in made})
    assert {row["kind"] for row in made} <= RANDOM_KINDS
    n_in_logs = sum(row["in_logs"] for row in made)
    assert n_in_logs == len(
        {v for d in few for v, k in zip(d.planted, d.kinds, strict=True) if k in RANDOM_KINDS}
    )
    texts = [text for draft in few for text in record_texts(draft.record)]
    for row in made[:n_in_logs]:
        assert any(text.startswith(row["prefix"] + row["value"]) for text in texts)
    logs = generate_payment_logs(3000, seed=7, planted_fraction=1.0)
    made = choose_canaries(logs, [])
    assert all(row["in_logs"] and row["role"] is None and row["turns"] == [] for row in made)
