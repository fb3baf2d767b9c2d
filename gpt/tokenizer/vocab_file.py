"""The tokenizer folder: tokenizer.json for machines, merges.txt for people."""

import base64
import json
from pathlib import Path
from typing import Any

from gpt.tokenizer.tokenizer import Tokenizer

FORMAT = "rawgpt-tokenizer-1"


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "kind": tokenizer.kind,
        "n_vocab": tokenizer.n_vocab,
        "special_tokens": tokenizer.special_tokens,
    }
    if tokenizer.kind == "bpe":
        content["pattern"] = tokenizer.pattern
        content["ranks"] = [base64.b64encode(token).decode() for token in tokenizer.tokens]
    else:
        content["symbols"] = [token.decode() for token in tokenizer.tokens]
    text = json.dumps(content, ensure_ascii=False, indent=0)
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    lines = [f"{i}\t{token!r}" for i, token in zip(tokenizer.ordinary_ids, tokenizer.tokens, strict=True)]
    lines += [f"{i}\t{name}" for name, i in tokenizer.special_tokens.items()]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json; raises ValueError that names the file when it is not ours or damaged."""
    path = folder / "tokenizer.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"format {content.get('format')!r}, {FORMAT!r} is expected")
        return _parse(content)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such tokenizer; run `dvc repro tokenize` first") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); run `dvc repro -f tokenize`") from None
    except ValueError as error:  # JSON, UTF-8 and base64 have their own kinds of it
        raise ValueError(f"{path}: damaged ({error}); run `dvc repro -f tokenize`") from None


def _parse(content: dict[str, Any]) -> Tokenizer:
    """Check that every id has exactly one text; raises ValueError that says what does not fit."""
    if content["kind"] == "bpe":
        tokens = tuple(base64.b64decode(token, validate=True) for token in content["ranks"])
    elif content["kind"] == "char":
        tokens = tuple(symbol.encode() for symbol in content["symbols"])
    else:
        raise ValueError(f"kind {content['kind']!r}")
    special = content["special_tokens"]
    n_vocab = len(tokens) + len(special)
    if content["n_vocab"] != n_vocab:
        raise ValueError(f"token count {n_vocab}, n_vocab {content['n_vocab']!r}")
    if len(set(special.values()) & set(range(n_vocab))) < len(special):
        raise ValueError("special_tokens: an id twice, or out of range")
    if len(set(tokens)) < len(tokens) or b"" in tokens:
        raise ValueError("a token twice, or an empty one")
    return Tokenizer(
        kind=content["kind"], pattern=content.get("pattern", ""), tokens=tokens, special_tokens=special
    )
