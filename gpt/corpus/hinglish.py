"""Generated Hinglish support chats and payment log lines, with canaries for the scrubber.

No real UPI or fintech log is public, so these are composed: a grammar (hinglish.yaml), facts that
hold through a chat, each speaker's own spelling, English and Devanagari words mixed in, typos.
Every record says `"synthetic": true`. A number measured on them is about them, not about customers.
Record i depends on the seed and i alone: asking for more leaves the earlier ones as they were.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpt.corpus.intents import Query
from gpt.corpus.log_record import Draft, chat_record
from gpt.corpus.planted import plant
from gpt.corpus.split import side_of

SLOT = re.compile(r"\{(\w+)\}")
SENTINEL = re.compile("\ue000(\\d+)\ue001")  # private-use letters keep planted values out of the noise
TITLES = ("Mr", "Mrs.", "Shri", "Smt", "Ms", "Dr.")


@dataclass(kw_only=True, slots=True)
class Speaker:
    """One chat or log line in the making: its facts, its writer's habits, what was planted."""

    rng: random.Random
    has_pii: bool
    facts: dict[str, str]
    planted: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """The planted values as they stand in the text, with a title where there is one."""
    first_name: str = ""
    spelling: dict[str, str] = field(default_factory=dict)
    english: float = 0.0
    devanagari: float = 0.0
    typos: float = 0.0
    intent: str = ""


@cache
def grammar() -> dict[str, Any]:
    """Read the grammar that stands beside this file."""
    path = Path(__file__).with_name("hinglish.yaml")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def generate_chats(
    n: int, *, seed: int, planted_fraction: float, val_fraction: float = 0.0
) -> Iterator[Draft]:
    """Yield n chats of 2 to 6 messages."""
    for i in range(n):
        key = f"chat-{i:06d}"
        speaker = _speaker(random.Random(f"chat {seed} {i}"), planted_fraction)
        record = chat_record(key, "generated", _chat(speaker), is_synthetic=True)
        yield Draft(
            record=record,
            side=side_of(key, seed, val_fraction),
            planted=speaker.planted,
            kinds=speaker.kinds,
            intent=speaker.intent,
        )


def generate_payment_logs(
    n: int, *, seed: int, planted_fraction: float, val_fraction: float = 0.0
) -> Iterator[Draft]:
    """Yield n log lines."""
    for i in range(n):
        key = f"payment-{i:06d}"
        speaker = _speaker(random.Random(f"payment {seed} {i}"), planted_fraction)
        record = {"id": key, "kind": "payment_log", "source": "generated", "synthetic": True}
        record["text"] = _payment_log(speaker)
        yield Draft(
            record=record,
            side=side_of(key, seed, val_fraction),
            planted=speaker.planted,
            kinds=speaker.kinds,
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


def _speaker(rng: random.Random, planted_fraction: float) -> Speaker:
    words = grammar()
    facts = {name: rng.choice(values) for name, values in words["facts"].items()}
    amount = rng.choice((rng.randint(1, 99) * 10, rng.randint(11, 9999), rng.randint(2, 99) * 500))
    facts["amount"] = rng.choice((f"{amount}", f"{amount}", f"{amount:,}", f"rs {amount}"))
    facts["ref"] = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(7))
    facts["last4"] = f"{rng.randrange(10000):04d}"
    return Speaker(
        rng=rng,
        has_pii=rng.random() < planted_fraction,
        facts=facts,
        spelling={word: rng.choice(ways) for word, ways in words["variants"].items()},
        english=rng.choice((0.0, 0.0, 0.2, 0.5)),
        devanagari=rng.choice((0.0,) * 6 + (0.3, 0.8)),
        typos=rng.choice((0.0, 0.0, 0.01, 0.03)),
    )


def _chat(speaker: Speaker) -> list[dict[str, str]]:
    """Compose the messages: a problem, an answer, perhaps questions, details and a farewell."""
    rng, scenarios = speaker.rng, grammar()["scenarios"]
    speaker.intent = rng.choice(sorted(scenarios))
    scenario = scenarios[speaker.intent]
    length = rng.choice((1, 2, 2, 3, 3))
    details = rng.choice(("{pii_any}", "{pii_any}. {no_pii}")) if speaker.has_pii else "{no_pii}"
    opening = ["{greet}", rng.choice(scenario["open"]), "{upset}", "{plead}"]
    if rng.random() < 0.25:
        opening[1], opening[2] = opening[2], opening[1]
    lines = [_sentence(opening, speaker)]
    if length > 1 and rng.random() < 0.6:
        lines += [_sentence(["{sorry}", "{ask} {need}"], speaker, is_agent=True)]
        lines += [_sentence([details, rng.choice(("", "{plead}"))], speaker)]
    elif speaker.has_pii or rng.random() < 0.3:
        lines[0] += rng.choice((". ", ", ", " ")) + _sentence([details], speaker)
    called = "{bot_name}" if speaker.first_name and rng.random() < 0.4 else ""
    answer = [called + rng.choice(("{sorry}", "")), rng.choice(scenario["answer"])]
    lines += [_sentence(answer, speaker, is_agent=True)]
    while len(lines) < 2 * length:
        if len(lines) + 2 >= 2 * length and rng.random() < 0.4:
            lines += [_sentence(["{close_user}"], speaker)]
            lines += [_sentence(["{close_bot}"], speaker, is_agent=True)]
        else:
            lines += [_sentence([rng.choice(scenario["more"]), "{plead}"], speaker)]
            lines += [_sentence([rng.choice(scenario["resolve"])], speaker, is_agent=True)]
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": line} for i, line in enumerate(lines)]


def _payment_log(speaker: Speaker) -> str:
    """Compose one line of a gateway, a bank or an SMS."""
    rng, words = speaker.rng, grammar()
    month, day = rng.randint(1, 12), rng.randint(1, 28)
    date = f"{rng.choice((2025, 2026))}-{month:02d}-{day:02d}"
    time = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
    status = rng.choice(("SUCCESS", "SUCCESS", "FAILED", "PENDING", "REVERSED", "TIMEOUT"))
    speaker.facts |= {
        "date": date,
        "time": time,
        "stamp": f"{date}T{time}+05:30",
        "status": status,
        "level": "INFO" if status == "SUCCESS" else rng.choice(("WARN", "ERROR")),
        "flow": rng.choice(("UPI_PAY", "UPI_COLLECT", "IMPS", "NEFT", "CARD_AUTH", "REFUND", "AUTOPAY")),
        "code": rng.choice(("00", "U30", "U16", "ZM", "BT", "U69", "RB", "XB", "K1")),
        "mode": rng.choice(("UPI", "CARD", "NETBANKING", "WALLET", "QR")),
        "moved": rng.choice(("debited from", "credited to", "spent from", "reversed to")),
        "app_code": speaker.facts["app"].upper().replace(" ", "_"),
        "rrn": "".join(rng.choice("0123456789") for _ in range(12)),
        "order": f"OD{rng.randrange(10**10):010d}",
        "amount": f"{rng.randint(1, 99999)}.{rng.choice(('00', '00', '50', '25'))}",
        "mdr": f"{rng.randint(0, 300)}.{rng.randrange(100):02d}",
        "count": str(rng.randint(2, 400)),
        "count_small": str(rng.randint(0, 4)),
        "latency": str(rng.randint(40, 9000)),
        "sms_via": rng.choice(("by UPI.", "via IMPS.", "at {merchant}.", "by NEFT.")),
        "sms_tail": rng.choice(("Aapne nahi kiya? 1930 par call karo", "Not you? SMS BLOCK", "{note}")),
        "note": _noisy(_expand(rng.choice(words["log_notes"]), speaker), speaker),
        "pii_kv": "",
        "pii_sms": "",
    }
    if speaker.has_pii:
        keys = {
            "vpa": "UPI", "payer_vpa": "UPI", "mobile": "PHONE", "msisdn": "PHONE", "acct": "ACCOUNT",
            "a/c": "ACCOUNT", "card": "CARD", "payer_name": "NAME", "beneficiary": "NAME",
            "email": "EMAIL", "pan": "PAN", "ifsc": "IFSC", "aadhaar": "AADHAAR",
        }  # fmt: skip
        chosen = rng.sample(sorted(keys), rng.choice((1, 1, 2, 3)))
        pairs = (f"{key}{rng.choice('=:')}{_plant(keys[key], speaker)}" for key in chosen)
        speaker.facts["pii_kv"] = " " + rng.choice((" ", "; ", ", ")).join(pairs)
        sms = rng.choice((" VPA {UPI}", " To {NAME_TITLE}", " Info: call {PHONE}", " A/c {ACCOUNT}"))
        speaker.facts["pii_sms"] = sms
    return _reveal(_expand(rng.choice(words["payment_logs"]), speaker), speaker)


def _sentence(parts: list[str], speaker: Speaker, *, is_agent: bool = False) -> str:
    """Expand the parts, join them in the writer's punctuation and spell them his way."""
    texts = [text for text in (_expand(part, speaker).strip() for part in parts) if text]
    text = speaker.rng.choice((", ", ". ", " ", "... ") if not is_agent else (", ", ". ")).join(texts)
    text = _noisy(text, speaker, is_agent=is_agent)
    if is_agent or speaker.rng.random() < 0.2:
        text = text[:1].upper() + text[1:]
    return _reveal(text, speaker)


def _expand(template: str, speaker: Speaker) -> str:
    """Replace every {slot} by a piece, a fact or a planted value, until none is left."""

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.isupper():
            return _plant(name, speaker)
        if name in speaker.facts:
            return _expand(speaker.facts[name], speaker)
        return _expand(speaker.rng.choice(grammar()["pieces"][name]), speaker)

    return SLOT.sub(one, template)


def _plant(kind: str, speaker: Speaker) -> str:
    """Put a sentinel for a planted value."""
    if kind == "NAME_FIRST":
        return speaker.first_name
    value = plant(kind, grammar(), speaker.rng)
    if kind.startswith("NAME"):
        words = [word for word in value.split() if word not in TITLES]
        speaker.first_name = words[0].title()
        speaker.planted.append(" ".join(words))
    else:
        speaker.planted.append(value)
    speaker.kinds.append(kind)
    speaker.written.append(value)
    return f"\ue000{len(speaker.written) - 1}\ue001"


def _reveal(text: str, speaker: Speaker) -> str:
    return SENTINEL.sub(lambda match: speaker.written[int(match.group(1))], text)


def _noisy(text: str, speaker: Speaker, *, is_agent: bool = False) -> str:
    """Spell, mix and mistype the words; digits, sentinels and punctuation stay."""
    words = grammar()
    rng = speaker.rng

    def one(match: re.Match[str]) -> str:
        word = match.group()
        if rng.random() < speaker.english and word in words["english"]:
            return str(words["english"][word])
        if rng.random() < speaker.devanagari and word in words["devanagari"]:
            return str(words["devanagari"][word])
        if is_agent:
            return word
        if rng.random() < 0.8:
            word = speaker.spelling.get(word, word)
        if len(word) > 4 and rng.random() < speaker.typos:
            at = rng.randrange(1, len(word) - 1)
            word = rng.choice((word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))
        return word

    return re.sub(r"(?<![\w\ue001])[a-z]+(?![\w\ue000])", one, text)


def distinct_n(texts: list[str], n: int) -> float:
    """Return the share of different n-grams of words among all of them (Li et al. 2016)."""
    total, seen = 0, set()
    for text in texts:
        tokens = text.split()
        grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / max(total, 1)
