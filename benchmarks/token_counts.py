"""How many tokens does a text cost? Bytes per token and tokens per word, vocabulary by vocabulary.

Characters, bytes, and BPE of 4K to 32K ids trained on English alone and on English with Hinglish and payment
logs, beside GPT-2's 50,257, on the held-out sets of benchmarks/tokenizer_texts.py. A word is what stands
between white space. A character tokenizer cannot write what training did not hold: those characters are
counted, and it has no figure on a set that holds one. The limit of a split pattern is the vocabulary that
knows every piece it makes: merges never cross one. Then `python -m benchmarks.tokenizer_chapter` writes the
chapter's tables. About a minute on one quiet core.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_type_hints

from benchmarks.result_file import write_result
from benchmarks.tokenizer_set import byte_tokenizer, gpt2_tokenizer, trained
from benchmarks.tokenizer_texts import HeldOut, english_text, generated_text, held_out_sets, hinglish_text
from gpt.evaluate.score import ratio_score
from gpt.tokenizer.config import TokenizeConfig
from gpt.tokenizer.pretokenize import PATTERNS, split_words
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer

OFFERED: tuple[str, ...] = get_args(get_type_hints(TokenizeConfig)["pattern"])
"""The split patterns that the dial tokenize.pattern offers."""
SHOWN = ("16K", "GPT-2")
"""Whose tokens of single words are shown."""
WORDS = (
    "khata",
    "bheja",
    "paise",
    "nahi aaya",
    "transaction",
    "reversal",
    "UPI",
    "₹4,999",
    "Rs.63285.25",
    "2026-05-03T18:36:02+05:30",
    "भुगतान",
    "धन्यवाद",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
)
"""Shown cut into tokens. The last begins article 1 of the Universal Declaration in Hindi: the only real
Devanagari here."""


def measure(name: str, tokenizer: Tokenizer, held_out: dict[str, HeldOut]) -> Iterator[dict[str, Any]]:
    """Yield a row for each set; where characters are unknown, their number instead of figures."""
    known = {token.decode() for token in tokenizer.tokens} if tokenizer.kind == "char" else None
    for set_name, held in held_out.items():
        unknown = 0 if known is None else sum(c not in known for text in held.texts for c in text)
        row = {"tokenizer": name, "set": set_name, "unknown_characters": unknown}
        if not unknown:
            row |= figures(held.texts, [len(tokenizer.encode(text)) for text in held.texts])
        yield row


def limit(name: str, pattern: str, held_out: dict[str, HeldOut]) -> Iterator[dict[str, Any]]:
    """Yield a row for each set, of a vocabulary that knows every piece the pattern makes."""
    for set_name, held in held_out.items():
        n_pieces = [len(split_words(text, PATTERNS[pattern])) for text in held.texts]
        row = {"tokenizer": name, "set": set_name, "unknown_characters": 0}
        yield row | figures(held.texts, n_pieces)


def figures(texts: Sequence[str], n_tokens: Sequence[int]) -> dict[str, float]:
    """Return tokens, bytes per token, tokens per word, and the standard errors over the texts."""
    found: dict[str, float] = {"tokens": sum(n_tokens)}
    sizes, words = [len(text.encode()) for text in texts], [len(text.split()) for text in texts]
    for score in (
        ratio_score("bytes_per_token", sizes, n_tokens, "text"),
        ratio_score("tokens_per_word", n_tokens, words, "text"),
    ):
        assert score.value is not None
        assert score.stderr is not None
        found |= {score.metric: round(score.value, 4), f"{score.metric}_se": round(score.stderr, 4)}
    return found


def pieces(tokenizer: Tokenizer, word: str) -> list[str]:
    """Return the tokens of a word behind a space, as text; one that is no whole character in hex.

    >>> pieces(byte_tokenizer("gpt2"), "é")
    ['␣', '<c3>', '<a9>']
    """
    shown = []
    for i in tokenizer.encode(f" {word}"):
        content = tokenizer.decode_bytes([i])
        try:
            shown.append(content.decode().replace(" ", "␣"))
        except UnicodeDecodeError:
            shown.append(f"<{content.hex()}>")
    return shown


def compare(english: list[str], domain: list[str], held_out: dict[str, HeldOut]) -> dict[str, Any]:
    """Train every tokenizer and measure it on every set."""
    rows: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    vocabularies: dict[str, int] = {}
    seconds: dict[str, float] = {}

    def show(name: str, word: str, cut: list[str]) -> None:
        segments.append({"tokenizer": name, "word": word, "tokens": len(cut), "pieces": "·".join(cut)})

    def add(name: str, tokenizer: Tokenizer) -> None:
        vocabularies[name] = tokenizer.n_vocab
        rows.extend(measure(name, tokenizer, held_out))
        if any(part in name.split() for part in SHOWN):
            for word in WORDS:
                show(name, word, pieces(tokenizer, word))

    families = {"English": english, "mixed": [*english, *domain]}
    add("byte", byte_tokenizer("gpt2"))
    for family, texts in families.items():
        add(f"{family} char", char_tokenizer(texts))
    for pattern in OFFERED:
        mark = "" if pattern == "gpt2" else f" {pattern}"
        for family, texts in families.items():
            started = time.process_time()
            of_size = trained(texts, pattern)
            seconds[f"{family}{mark}"] = round(time.process_time() - started, 1)
            for size, tokenizer in of_size.items():
                add(f"{family} {size}{mark}", tokenizer)
    add("GPT-2", gpt2_tokenizer())
    for pattern in OFFERED:
        name = f"limit of {pattern}"
        rows.extend(limit(name, pattern, held_out))
        for word in WORDS:
            cut = [piece.decode().replace(" ", "␣") for piece in split_words(f" {word}", PATTERNS[pattern])]
            show(name, word, cut)
    return {"n_vocab": vocabularies, "training_cpu_s": seconds, "rows": rows, "segments": segments}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-mb", type=float, default=20.0, help="English text, 10^6 bytes")
    arguments = parser.parse_args()
    parts = {
        "English": english_text(int(arguments.train_mb * 1e6)),
        "Hinglish": hinglish_text(),
        "generated": generated_text(),
    }
    domain = [*parts["Hinglish"], *parts["generated"]]
    held_out = held_out_sets(parts["English"], domain)
    sets = [
        {
            "set": name,
            "description": held.description,
            "is_synthetic": held.is_synthetic,
            "units": len(held.texts),
            "bytes": sum(len(text.encode()) for text in held.texts),
            "words": sum(len(text.split()) for text in held.texts),
        }
        for name, held in held_out.items()
    ]
    training = {
        name: {"texts": len(texts), "bytes": sum(len(text.encode()) for text in texts)}
        for name, texts in parts.items()
    }
    result = {"training": training, "held_out": sets}
    write_result("token_counts", result | compare(parts["English"], domain, held_out))


if __name__ == "__main__":
    main()
