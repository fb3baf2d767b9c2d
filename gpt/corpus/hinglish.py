"""Generated Hinglish support chats, with canaries for the scrubber.

No real UPI or fintech chat is public, so these are composed: what a customer wants (30 intents), frames with
optional clauses (grammar.py), moves of a conversation (questions back, misunderstandings, corrections, a
second wish, an objection), facts that hold through it, and each writer's own spelling, mix of languages and
register. Every record says `"synthetic": true`. A number measured on them is about them, not about customers.
Record i depends on the seed, the share held out and i alone: asking for more leaves the earlier ones alone.
"""

import random
from collections.abc import Iterator

from gpt.corpus.grammar import grammar
from gpt.corpus.intents import Query
from gpt.corpus.log_record import Draft, Side, chat_record
from gpt.corpus.speaker import Speaker, make_speaker
from gpt.corpus.spelling import punctuate, write
from gpt.corpus.split import side_of

Messages = list[dict[str, str]]


def generate_chats(
    n: int, *, seed: int, planted_fraction: float, val_fraction: float = 0.0
) -> Iterator[Draft]:
    """Yield n chats; those of the validation side are made of frames that no other chat uses."""
    for i in range(n):
        key = f"chat-{i:06d}"
        side: Side = side_of(key, seed, val_fraction)
        speaker = make_speaker(random.Random(f"chat {seed} {i}"), planted_fraction, side)
        messages = _chat(speaker)
        yield Draft(
            record=chat_record(key, "generated", messages, is_synthetic=True),
            side=side,
            planted=speaker.planted,
            kinds=speaker.kinds,
            templates=frozenset(speaker.used),
            intent=speaker.intent,
        )


def generate_queries(n: int, *, seed: int, val_fraction: float) -> Iterator[Query]:
    """Yield n opening messages without personal data, each with its chat's intent."""
    for draft in generate_chats(n, seed=seed, planted_fraction=0.0, val_fraction=val_fraction):
        yield Query(
            key=draft.record["id"].replace("chat", "intent"),
            source="generated",
            text=draft.record["messages"][0]["content"],
            labels=(draft.intent.replace("_", " "),),
            side=draft.side,
            is_synthetic=True,
        )


def _chat(speaker: Speaker) -> Messages:
    """Compose the messages: a problem, perhaps detours, an answer, perhaps more questions and a farewell."""
    rng = speaker.rng
    speaker.intent = rng.choice(sorted(grammar()["intents"]))
    chat: Messages = []
    tells = speaker.has_pii and rng.random() < 0.4
    _user(chat, speaker, _opening(speaker, tells_pii=tells))
    for move, probability in (
        (_nudge, 0.06),
        (_clarify, 0.35),
        (_verify, 0.25),
        (_misread, 0.1),
        (_correct, 0.1),
    ):
        due = move is _verify and speaker.has_pii and not tells
        if due or rng.random() < probability:
            move(chat, speaker)
    _answer(chat, speaker)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        (move,) = rng.choices((_question, _generic, _object, _switch), (7, 2, 1.2, 1))
        move(chat, speaker)
    if rng.random() < 0.4:
        _user(chat, speaker, ["{close_user}"])
        _agent(chat, speaker, ["{close_bot}"])
    return chat


def _opening(speaker: Speaker, *, tells_pii: bool) -> list[str]:
    rng = speaker.rng
    problem = speaker.draw(f"{speaker.intent}.problem")
    detail = speaker.pii() if tells_pii else ""
    if speaker.register == "terse":
        return [problem, detail]
    parts = [problem, detail or speaker.maybe("no_pii", 0.3), speaker.maybe("plead", 0.5)]
    feels = speaker.maybe("upset", 0.6 if speaker.register == "angry" else 0.15)
    parts.insert(rng.choice((0, 1, 1, len(parts))), feels)
    return [speaker.maybe(f"greet_{speaker.register}", 0.6), *parts]


def _nudge(chat: Messages, speaker: Speaker) -> None:
    _agent(chat, speaker, ["{here}"])
    _user(chat, speaker, ["{nudge}"])


def _clarify(chat: Messages, speaker: Speaker) -> None:
    """The agent asks what this problem needs; the customer says it."""
    asked, _, told = speaker.draw(f"{speaker.intent}.clarify").partition(" => ")
    if asked:
        _agent(chat, speaker, [speaker.maybe("sorry", 0.4), asked])
        _user(chat, speaker, [told, speaker.maybe("no_pii", 0.2)])


def _verify(chat: Messages, speaker: Speaker) -> None:
    """The agent asks who it is; the customer gives personal data, in a clean chat something else."""
    _agent(chat, speaker, [speaker.maybe("sorry", 0.5), "{ask}"])
    given = speaker.pii() if speaker.has_pii else "{no_pii}"
    _user(chat, speaker, [given, speaker.maybe("no_pii", 0.2), speaker.maybe("plead", 0.3)])


def _misread(chat: Messages, speaker: Speaker) -> None:
    """The agent answers another question; the customer says his own again."""
    other = speaker.rng.choice(sorted(set(grammar()["intents"]) - {speaker.intent}))
    speaker.facts["again"] = speaker.draw(f"{speaker.intent}.problem")
    said = speaker.draw(f"{other}.fix")
    if said and speaker.facts["again"]:
        _agent(chat, speaker, [said])
        _user(chat, speaker, ["{not_that}"])
        _agent(chat, speaker, ["{oh}", "{ask}"])
        _user(chat, speaker, ["{no_pii}"])


def _correct(chat: Messages, speaker: Speaker) -> None:
    """The customer takes a fact back; from then on the other one holds."""
    frame = speaker.draw("correct")
    if not frame:
        return
    _agent(chat, speaker, ["{here}"])
    _user(chat, speaker, [frame])
    for name in ("amount", "bank", "when", "app"):
        if f"{{{name}2}}" in frame:
            speaker.facts[name] = speaker.facts[f"{name}2"]
    _agent(chat, speaker, ["{noted}", speaker.maybe("ask", 0.3)])
    _user(chat, speaker, ["{agent_yes}", "{no_pii}"])


def _answer(chat: Messages, speaker: Speaker) -> None:
    called = speaker.first_name and speaker.rng.random() < 0.4
    opener = "{called} " if called else speaker.maybe("sorry", 0.5)
    _agent(chat, speaker, [opener, *_solution(speaker, speaker.intent)])


def _solution(speaker: Speaker, intent: str) -> list[str]:
    """Why it happened and what to do, in one to three sentences."""
    parts = [
        speaker.draw(f"{intent}.cause") if speaker.rng.random() < 0.75 else "",
        speaker.draw(f"{intent}.fix"),
    ]
    if speaker.rng.random() < 0.3:
        parts.append(speaker.draw(f"{intent}.fix"))
    return parts if any(parts) else ["{calm}"]


def _question(chat: Messages, speaker: Speaker) -> None:
    asked, _, told = speaker.draw(f"{speaker.intent}.pairs").partition(" => ")
    if asked:
        _user(chat, speaker, [speaker.maybe("agent_yes", 0.2), asked])
        _agent(chat, speaker, [speaker.maybe("agent_yes", 0.25), told])


def _generic(chat: Messages, speaker: Speaker) -> None:
    asked, _, told = speaker.draw("generic").partition(" => ")
    if asked:
        _user(chat, speaker, [asked])
        _agent(chat, speaker, [told])


def _object(chat: Messages, speaker: Speaker) -> None:
    _user(chat, speaker, ["{objection}"])
    _agent(chat, speaker, ["{calm}"])


def _switch(chat: Messages, speaker: Speaker) -> None:
    """A second wish in the same chat."""
    other = speaker.rng.choice(sorted(set(grammar()["intents"]) - {speaker.intent}))
    speaker.facts["other"] = speaker.draw(f"{other}.problem")
    _user(chat, speaker, ["{switch}"])
    _agent(chat, speaker, [speaker.maybe("agent_yes", 0.3), *_solution(speaker, other)])


def _user(chat: Messages, speaker: Speaker, parts: list[str]) -> None:
    texts = [text for text in (speaker.expand(part).strip() for part in parts) if text]
    joined = speaker.rng.choice((", ", ". ", " ", "... ", "\n")).join(texts)
    chat.append(
        {
            "role": "user",
            "content": _finished(punctuate(write(joined, speaker, is_agent=False), speaker), speaker),
        }
    )


def _agent(chat: Messages, speaker: Speaker, parts: list[str]) -> None:
    texts = [text for text in (speaker.expand(part).strip() for part in parts) if text]
    sentences = [text[:1].upper() + text[1:] for text in texts]
    joined = (
        speaker.rng.choice((". ", ". ", ", ")).join(sentences)
        if speaker.rng.random() < 0.9
        else " ".join(texts)
    )
    chat.append({"role": "assistant", "content": _finished(write(joined, speaker, is_agent=True), speaker)})


def _finished(text: str, speaker: Speaker) -> str:
    return speaker.reveal(text.replace(",, ", ", ").replace(",. ", ", ").replace("?.", "?"))
