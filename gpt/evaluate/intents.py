"""Intent accuracy: of a closed list of names, the one a model finds least surprising as the answer.

The queries are held out; `logs` writes them and the lists (files/intents.jsonl, files/intent_labels.json).
A tuned model gets the question as a turn of its chat and each name as the assistant's whole turn; any other
gets question and name as lines of plain text. The end of the turn or line belongs to a name, so that
`card` does not win against `card arrival` by being its beginning.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.evaluate.ending_nats import Question, ending_nats
from gpt.evaluate.json_lines import numbered_lines
from gpt.evaluate.multiple_choice import ItemNats, choice_scores
from gpt.evaluate.score import Score, absent_score, evenly
from gpt.model.transformer import Transformer
from gpt.tokenizer.chat_template import encode_chat, encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer

QUERIES, LABELS = "intents.jsonl", "intent_labels.json"
RULES = ("acc", "acc_norm_char")


@dataclass(frozen=True, kw_only=True, slots=True)
class IntentSet:
    """Held-out queries of one set."""

    name: str
    labels: tuple[str, ...]
    """The closed list."""
    queries: tuple[tuple[str, str], ...]
    """(what the model is asked, the right name)."""


def read_intents(folder: Path, limit: int) -> list[IntentSet]:
    """Read every set, `limit` queries of each (0: all), evenly spread; none when the files are not there.

    Raises ValueError that names the file and line of a query without its fields or with an unlisted name.
    """
    path, names = folder / QUERIES, folder / LABELS
    if not (path.is_file() and names.is_file()):
        return []
    try:
        lists = json.loads(names.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{names}: damaged ({error}); run `dvc repro -f logs`") from None
    found: dict[str, list[tuple[str, str]]] = {}
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
            if row["label"] not in lists[row["set"]]:
                raise ValueError(f"label {row['label']!r} is not in the list of {row['set']}")
            found.setdefault(row["set"], []).append((row["prompt"], row["label"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a query with an intent ({error})") from None
    return [
        IntentSet(name=name, labels=tuple(lists[name]), queries=tuple(evenly(queries, limit)))
        for name, queries in sorted(found.items())
    ]


def intent_scores(
    model: Transformer, tokenizer: Tokenizer, intents: IntentSet, *, as_chat: bool, batch_tokens: int
) -> list[Score]:
    """Return the share of right names, by likelihood and by likelihood per character."""
    metric = f"intent_{intents.name}"
    questions = [
        encode_question(tokenizer, prompt, intents.labels, as_chat=as_chat) for prompt, _ in intents.queries
    ]
    longest = max(len(q.context) + max(map(len, q.endings)) for q in questions)
    if longest > model.config.max_seq_len + 1:
        reason = f"a query and a name take {longest} tokens, max_seq_len is {model.config.max_seq_len}"
        return [absent_score(f"{metric}_{rule}", reason, "query") for rule in RULES]
    answers = []
    for (_, label), pieces in zip(intents.queries, ending_nats(model, questions, batch_tokens), strict=True):
        answers.append(
            ItemNats(
                nats=tuple(float(piece.double().sum()) for piece in pieces),
                n_tokens=tuple(len(piece) for piece in pieces),
                n_chars=tuple(len(name) for name in intents.labels),
                label=intents.labels.index(label),
            )
        )
    scores = choice_scores(metric, answers, unit="query")
    return [scores[rule] for rule in RULES]


def encode_question(tokenizer: Tokenizer, prompt: str, labels: Sequence[str], *, as_chat: bool) -> Question:
    """Return the question's tokens and each name's, its end included."""
    if not as_chat:
        endings = [tokenizer.encode(label + "\n") for label in labels]
        return Question(context=tokenizer.encode(prompt + "\n"), endings=endings)
    user = {"role": "user", "content": prompt}
    context = encode_prompt(tokenizer, [user])
    endings = []
    for label in labels:
        ids, learned = encode_chat(tokenizer, [user, {"role": "assistant", "content": label}])
        endings.append(ids[len(context) : max(i for i, is_answer in enumerate(learned) if is_answer) + 1])
    return Question(context=context, endings=endings)
