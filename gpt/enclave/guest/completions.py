"""POST /v1/completions without HTTP: a JSON value in, an OpenAI-shaped answer out, every field checked."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .model import Cache, Model, open_model
from .sampling import sample
from .tokenizer import Tokenizer, open_tokenizer

MAX_PROMPT_CHARACTERS = 65536
STOP_NAMES = ("<|endoftext|>", "<|end|>")
NUMBERS: dict[str, tuple[type, float, float, float]] = {  # name: type, default, least, greatest
    "max_tokens": (int, 16, 1, 4096),
    "temperature": (float, 1.0, 0.0, 100.0),
    "top_k": (int, 0, 0, 2**31),
    "top_p": (float, 1.0, 0.0, 1.0),
    "seed": (int, -1, 0, 2**63 - 1),
}
ONLY = {"stream": (False, None), "n": (1, None), "echo": (False, None), "stop": (None,)}


class BadRequest(ValueError):
    """The client's mistake, in OpenAI's words."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


@dataclass(frozen=True)
class Request:
    """A checked request."""

    ids: list[int]
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


class Completer:
    """A model that answers one request at a time."""

    def __init__(self, model: Model, tokenizer: Tokenizer, name: str) -> None:
        vocab_size = model.architecture["vocab_size"]
        if tokenizer.n_vocab > vocab_size:
            raise ValueError(f"tokenizer.json: {tokenizer.n_vocab} tokens, the model has {vocab_size}")
        self.model, self.tokenizer, self.name = model, tokenizer, name
        known = tokenizer.special_tokens
        self.stop_ids = {known[stop] for stop in STOP_NAMES if stop in known}

    def check(self, body: Any) -> Request:
        """Turn a JSON body into a request; raises BadRequest."""
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        unknown = sorted(set(body) - {"prompt", "model", "user", *NUMBERS, *ONLY})
        if unknown:
            raise BadRequest(f"unknown parameter '{unknown[0]}'", unknown[0], "unknown_parameter")
        for name, allowed in ONLY.items():
            if name in body and not any(body[name] is a or body[name] == a for a in allowed):
                raise BadRequest(f"'{name}' = {body[name]!r} is not supported here", name)
        numbers = {name: _number(name, body.get(name)) for name in NUMBERS}
        ids = self._prompt_ids(body.get("prompt"))
        limit = self.model.architecture["max_seq_len"]
        if len(ids) >= limit:
            raise BadRequest(
                f"the prompt has {len(ids)} tokens; the model reads fewer than {limit}",
                "prompt",
                "context_length_exceeded",
            )
        return Request(ids=ids, **numbers)

    def _prompt_ids(self, prompt: Any) -> list[int]:
        if isinstance(prompt, str):
            if len(prompt) > MAX_PROMPT_CHARACTERS:
                raise BadRequest(f"more than {MAX_PROMPT_CHARACTERS} characters", "prompt")
            try:
                return self.tokenizer.encode(prompt) or [self.tokenizer.special_tokens["<|endoftext|>"]]
            except UnicodeEncodeError:
                raise BadRequest("the prompt holds half of a surrogate pair", "prompt") from None
            except ValueError as error:
                raise BadRequest(str(error), "prompt") from None
        if isinstance(prompt, list) and prompt and all(type(i) is int for i in prompt):
            if not all(0 <= i < self.tokenizer.n_vocab for i in prompt):
                raise BadRequest(f"token ids are 0..{self.tokenizer.n_vocab - 1}", "prompt")
            return prompt
        raise BadRequest("'prompt' must be a text or a list of token ids", "prompt")

    def complete(self, request: Request) -> dict[str, Any]:
        """Generate and return the answer."""
        seed = secrets.randbits(32) if request.seed < 0 else request.seed
        generator = np.random.default_rng(seed)
        cache, ids = Cache(self.model.architecture), request.ids
        new_ids: list[int] = []
        limit = min(request.max_tokens, self.model.architecture["max_seq_len"] - len(ids))
        finish_reason = "length"
        while len(new_ids) < limit:
            logits = self.model.last_logits(ids, cache)[: self.tokenizer.n_vocab]
            token = sample(logits, request.temperature, request.top_k, request.top_p, generator)
            if token in self.stop_ids:
                finish_reason = "stop"
                break
            new_ids.append(token)
            ids = [token]
        text = self.tokenizer.decode(new_ids)
        return {
            "id": f"cmpl-{hashlib.sha256(repr((request, seed)).encode()).hexdigest()[:24]}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}],
            "usage": {
                "prompt_tokens": len(request.ids),
                "completion_tokens": len(new_ids),
                "total_tokens": len(request.ids) + len(new_ids),
            },
        }


def _number(name: str, value: Any) -> Any:
    """Check one numeric field against NUMBERS."""
    kind, default, least, greatest = NUMBERS[name]
    if value is None:
        return kind(default)
    is_number = type(value) is int or (kind is float and type(value) is float)
    if not is_number or not least <= value <= greatest:
        wanted = "a whole number" if kind is int else "a number"
        raise BadRequest(f"'{name}' must be {wanted} in {least}..{greatest}, got {value!r}", name)
    return kind(value)


def open_completer(folder: Path) -> Completer:
    """Open a verified checkpoint folder."""
    model, config = open_model(folder)
    return Completer(model, open_tokenizer(folder), f"rawgpt-{config['stage']}")
