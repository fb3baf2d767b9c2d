"""One chat or log line in the making: its facts, its writer's habits, its frames and what was planted."""

import random
import re
from dataclasses import dataclass, field

from gpt.corpus.grammar import CHOICE, SLOT, Language, frames, grammar, is_frame
from gpt.corpus.log_record import Side
from gpt.corpus.planted import plant

LEVELS = ("english", "light", "heavy", "devanagari")
LEVEL_WEIGHTS = (3, 8, 6, 3)
"""How much Hindi a chat is in: English; Hinglish with English words; with Hindi words; in Devanagari."""
REGISTERS = ("polite", "casual", "angry", "terse")
REGISTER_WEIGHTS = (4, 6, 3, 2)
SENTINEL = re.compile("\ue000(\\d+)\ue001")  # private-use letters keep planted values out of the noise
TITLES = ("Mr", "Mrs.", "Shri", "Smt", "Ms", "Dr.")
PII = (
    "phone",
    "name",
    "upi",
    "account",
    "card",
    "email",
    "pan",
    "aadhaar",
    "name phone",
    "account ifsc",
    "name upi",
)


@dataclass(kw_only=True, slots=True)
class Speaker:
    """Who writes; `draw` and `expand` make his words."""

    rng: random.Random
    side: Side
    has_pii: bool
    level: str
    register: str
    facts: dict[str, str]
    spelling: dict[str, str] = field(default_factory=dict)
    """How this writer spells a word, once he has spelled it."""
    typos: float = 0.0
    planted: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """The planted values as they stand in the text, with a title where there is one."""
    first_name: str = ""
    intent: str = ""
    used: set[str] = field(default_factory=set)
    """Frames drawn so far, as `language name: frame`."""

    @property
    def language(self) -> Language:
        """The language of the frames; Devanagari is written over Hinglish ones."""
        return "en" if self.level == "english" else "hi"

    def draw(self, name: str, *, again: bool = False) -> str:
        """Return a frame that this chat has not used, or (`again`) any; empty when there is none."""
        known = frames(name, self.language, self.side)
        left = [frame for frame in known if f"{self.language} {name}: {frame}" not in self.used]
        if again:
            left = left or list(known)
        if not left:
            return ""
        frame = self.rng.choice(left)
        if is_frame(name):
            self.used.add(f"{self.language} {name}: {frame}")
        return frame

    def maybe(self, name: str, probability: float) -> str:
        """Return a slot of that name or nothing."""
        return f"{{{name}}}" if self.rng.random() < probability else ""

    def expand(self, template: str) -> str:
        """Choose among the [alternatives] and fill every {slot}: a fact, a planted value or a piece."""
        while CHOICE.search(template):
            template = CHOICE.sub(lambda m: self.rng.choice(m.group(1).split("|")), template)

        def one(match: re.Match[str]) -> str:
            name = match.group(1)
            if name.isupper():
                return self._plant(name)
            return self.expand(self.facts[name] if name in self.facts else self.draw(name, again=True))

        return SLOT.sub(one, template)

    def pii(self) -> str:
        """Return slots for one or two pieces of personal data."""
        return ", ".join(f"{{pii_{kind}}}" for kind in self.rng.choice(PII).split())

    def reveal(self, text: str) -> str:
        """Put the planted values where their sentinels stand."""
        return SENTINEL.sub(lambda match: self.written[int(match.group(1))], text)

    def _plant(self, kind: str) -> str:
        """Return a sentinel for a planted value."""
        if kind == "NAME_FIRST":
            return self.first_name
        value = plant(kind, grammar(), self.rng)
        if kind.startswith("NAME"):
            words = [word for word in value.split() if word not in TITLES]
            self.first_name = words[0].title()
            self.planted.append(" ".join(words))
        else:
            self.planted.append(value)
        self.kinds.append(kind)
        self.written.append(value)
        return f"\ue000{len(self.written) - 1}\ue001"


def make_speaker(rng: random.Random, planted_fraction: float, side: Side) -> Speaker:
    """Draw a speaker: facts that hold through the chat, and habits of writing."""
    (level,) = rng.choices(LEVELS, LEVEL_WEIGHTS)
    known = grammar()["facts"]
    facts = {}
    for name in ("bank", "app", "merchant", "biller", "days"):
        facts[name], facts[f"{name}2"] = rng.sample(known[name], 2)
    facts["when"], facts["when2"] = rng.sample(known["when_en" if level == "english" else "when"], 2)
    facts["since"] = rng.choice(known["since"])
    facts["amount"], facts["amount2"] = _amount(rng), _amount(rng)
    facts["ref"] = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(7))
    facts["last4"] = f"{rng.randrange(10000):04d}"
    return Speaker(
        rng=rng,
        side=side,
        has_pii=rng.random() < planted_fraction,
        level=level,
        register=rng.choices(REGISTERS, REGISTER_WEIGHTS)[0],
        facts=facts,
        typos=rng.choice((0.0, 0.0, 0.01, 0.03)),
    )


def _amount(rng: random.Random) -> str:
    amount = rng.choice((rng.randint(1, 99) * 10, rng.randint(11, 9999), rng.randint(2, 99) * 500))
    return rng.choice((f"{amount}", f"{amount}", f"{amount:,}", f"rs {amount}", f"₹{amount}", f"{amount} rs"))
