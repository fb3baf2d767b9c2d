"""Requests that no client should send, from a seed: wrong types, deep JSON, numbers that are none, bad bytes.

Some are valid by chance; all are small, so that no answer takes long.
"""

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

PATHS = ("/v1/completions", "/v1/chat/completions")
BODIES: tuple[dict[str, Any], ...] = (
    {"prompt": "a", "max_tokens": 1, "temperature": 0.5, "stop": ["b"], "seed": 1, "n": 1, "logprobs": 1},
    {"prompt": [[1], [2, 3]], "max_tokens": 1, "stream": True, "stream_options": {"include_usage": True}},
    {"prompt": ["a", "b"], "echo": True, "max_tokens": 0, "top_p": 0.9, "best_of": 1, "model": None},
    {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
    },
)
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1" * 30, "-0", "1e-400", "9" * 5000, "0.1e1")
STRINGS = ("", "\x00", "\ud800", "a" * 3000, " " * 3000, "<|endoftext|>", "é" * 50, "null", "\u202e", "🙂")
EXTREMES: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 1e-3, 100.0, 1e-300, 5e-324),
    "top_p": (1, 1e-300, 1.0000001),
    "top_k": (1, 10**9, 2**63),
    "min_p": (1, 1e-300),
    "repetition_penalty": (1e-300, 1e300, 0.01, 100.0, 1.7e308),
    "seed": (2**63 - 1, -(2**63), 2**63),
}
"""Values that a sampler may be let in with, and must bear, or must never see."""
VALUES = (None, True, False, -1, 0, 1, 10**9, 2**63, -(2**64), 0.5, [], {}, [[]], [None], {"a": {}}, [1, "a"])
RAW = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b'"prompt"',
    b"[" * 3000,
    b'{"prompt":' * 500,
    b'{"prompt": "a"',
    b'{"prompt": "\xc3"}',
    b'{"prompt": "a", "prompt": 1}',
    b"nul",
    b"\xef\xbb\xbf{}",
    b"{}{}",
)
TYPES = ("application/json", "application/json", "text/plain", "application/xml", "multipart/form-data", "")


class Malformed(NamedTuple):
    """One request."""

    path: str
    content: bytes
    content_type: str


def malformed(n: int, seed: int) -> Iterator[Malformed]:
    """Yield n requests; the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(n):
        template = draw.choice(BODIES)
        path = PATHS["messages" in template] if draw.random() < 0.9 else draw.choice(PATHS)
        content = draw.choice(RAW) if draw.random() < 0.1 else _body(draw, template)
        if draw.random() < 0.1:
            content = content[: draw.randrange(len(content) + 1)]  # half a body
        if draw.random() < 0.1 and content:
            i = draw.randrange(len(content))
            content = content[:i] + bytes([draw.randrange(256)]) + content[i + 1 :]
        is_typed = draw.random() < 0.9
        yield Malformed(path, content, TYPES[0] if is_typed else draw.choice(TYPES))


def _body(draw: random.Random, template: dict[str, Any]) -> bytes:
    body = dict(template)
    for name in draw.sample(sorted(EXTREMES), draw.randint(0, 3)):
        body[name] = draw.choice(EXTREMES[name])
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        key = draw.choice([*body, "prompt", "n", "stop", "seed", "top_k", "logit_bias", draw.choice(STRINGS)])
        body[key] = _value(draw)
    text = json.dumps(body)
    for i in range(len(NUMBERS)):  # what json.dumps cannot write
        text = text.replace(f'"number {i}"', NUMBERS[i])
    return text.encode("utf-8", "surrogatepass")


def _value(draw: random.Random) -> Any:
    kind = draw.randrange(5)
    if kind == 0:
        return f"number {draw.randrange(len(NUMBERS))}"
    if kind == 1:
        return draw.choice(STRINGS)
    if kind == 2:
        value: Any = draw.choice(VALUES)
        for _ in range(draw.choice((1, 5, 200))):
            value = [value] if draw.random() < 0.5 else {"a": value}
        return value
    if kind == 3:
        return [draw.choice((*VALUES, *STRINGS)) for _ in range(draw.randint(0, 40))]
    return draw.choice(VALUES)


def nonsense(n: int, seed: int) -> Iterator[bytes]:
    """Yield n things to send to a bare socket."""
    draw = random.Random(seed)
    good = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    for _ in range(n):
        length = draw.choice((b"-1", b"1e9", b"99999999999999999999", b"0x10", b"", b"5, 5", b"+5"))
        chunk = draw.choice((b"zz", b"5\r\nab", b"-1", b"fffffff"))
        method = draw.choice((b"GET", b"BREW", b"\x00", b"PRI"))
        version = draw.choice((b"9.9", b"2.0", b"1.1"))
        target = bytes(draw.randrange(1, 256) for _ in range(40))
        yield draw.choice(
            (
                bytes(draw.randrange(256) for _ in range(draw.randint(1, 200))),
                good + b"Content-Length: " + length + b'\r\n\r\n{"prompt": "a"}',
                good + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n",
                good + b"Content-Length: 40\r\n\r\n" + b'{"prompt": "a"'[: draw.randrange(15)],
                good + b"X: " + b"a" * 70000 + b"\r\n\r\n",
                method + b" * HTTP/" + version + b"\r\n\r\n",
                b"GET /" + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                good + b"Content-Length: 2\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            )
        )
