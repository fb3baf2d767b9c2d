"""The guest's server, started as in the enclave but on loopback, from a copy that has no gpt beside it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint.save_load import open_checkpoint
from gpt.enclave.guest.completions import open_completer
from gpt.quantize.load import load_quantized
from gpt.tokenizer.tokenizer import Tokenizer

GUEST = Path(__file__).parents[3] / "gpt" / "enclave" / "guest"
PROMPT = "Shall I compare"


@pytest.fixture
def port(tmp_path: Path, checkpoint: Path) -> Iterator[int]:
    """Start a copy of the guest with nothing of the house on its path; end it by its own handle."""
    shutil.copytree(GUEST, tmp_path / "home" / "guest")
    environment = {"PYTHONPATH": str(tmp_path / "home"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", "-m", "guest", "--model", str(checkpoint), "--tcp", "0"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on tcp port "), line
        yield int(line.split()[-1])
        assert process.poll() is None, "the server died"
    finally:
        process.kill()
        process.wait()


def ask(port: int, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Send a request; return status and JSON."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def greedy(checkpoint: Path, ids: list[int], n: int) -> list[int]:
    """Continue greedily with the torch model."""
    model = load_quantized(open_checkpoint(checkpoint))
    for _ in range(n):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids]))[0, -1].argmax())]
    return ids[-n:]


def test_server(port: int, checkpoint: Path, tokenizer: Tokenizer) -> None:
    """Guards the whole guest: health, a completion equal to torch's, seeds, and no 500 for bad input."""
    assert ask(port, "/health") == (200, {"status": "ok", "model": "rawgpt-quantize"})
    assert ask(port, "/v1/models")[1]["data"][0]["id"] == "rawgpt-quantize"
    body = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0}
    status, answer = ask(port, "/v1/completions", json.dumps(body).encode())
    ids = tokenizer.encode(PROMPT)
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == tokenizer.decode(greedy(checkpoint, ids, 6))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {
        "prompt_tokens": len(ids),
        "completion_tokens": 6,
        "total_tokens": len(ids) + 6,
    }
    by_ids = ask(port, "/v1/completions", json.dumps(body | {"prompt": ids}).encode())[1]
    assert by_ids["choices"] == answer["choices"]
    seeded = [
        ask(port, "/v1/completions", json.dumps(body | {"temperature": 2.0, "seed": seed}).encode())[1]
        for seed in (1, 1, 2)
    ]
    assert seeded[0]["choices"] == seeded[1]["choices"] != seeded[2]["choices"]
    for bad in (b"", b"{", b"[]", b"\xff", b'"\\ud800"', b"[" * 100_000, b"1" * 5000):
        status, answer = ask(port, "/v1/completions", bad)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), bad[:20]
    assert ask(port, "/v1/completions", b" " * (2**20 + 1))[0] == 413
    assert ask(port, "/nowhere")[0] == 404
    assert ask(port, "/nowhere", b"{}")[0] == 404
    for raw, expected in ((b"DELETE / HTTP/1.1\r\n\r\n", b"501"), (b"nonsense\r\n\r\n", b"400")):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as channel:
            channel.sendall(raw)
            answered = b"".join(iter(lambda: channel.recv(4096), b""))
        assert b'"invalid_request_error"' in answered
        assert expected in answered or raw.startswith(b"nonsense")  # HTTP/0.9 has no status line
    with socket.create_connection(("127.0.0.1", port), timeout=5) as channel:
        channel.sendall(b"POST /v1/completions HTTP/1.1\r\n\r\n")
        assert b" 411 " in channel.recv(4096)
    assert ask(port, "/health")[0] == 200


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "a text or a list of token ids"),
        ({"prompt": []}, "prompt", "a text or a list"),
        ({"prompt": [True]}, "prompt", "a text or a list"),
        ({"prompt": [320]}, "prompt", r"token ids are 0\.\.319"),
        ({"prompt": "x" * 65537}, "prompt", "more than 65536 characters"),
        ({"prompt": "\ud800"}, "prompt", "surrogate"),
        ({"prompt": "x " * 40}, "prompt", "fewer than 32"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens", r"1\.\.4096"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens", "a whole number"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens", "a whole number"),
        ({"prompt": "x", "temperature": float("nan")}, "temperature", "nan"),
        ({"prompt": "x", "temperature": "hot"}, "temperature", "a number"),
        ({"prompt": "x", "top_p": 1.1}, "top_p", r"0\.0\.\.1\.0"),
        ({"prompt": "x", "seed": -1}, "seed", "-1"),
        ({"prompt": "x", "stream": True}, "stream", "not supported"),
        ({"prompt": "x", "n": 2}, "n", "not supported"),
        ({"prompt": "x", "best_of": 2}, "best_of", "unknown parameter"),
    ],
)
def test_a_bad_field_is_named(checkpoint: Path, body: dict[str, Any], param: str, message: str) -> None:
    """Guards a field that is ignored or that ends in a traceback."""
    with pytest.raises(ValueError, match=message) as caught:
        open_completer(checkpoint).check(body)
    assert caught.value.param == param  # type: ignore[attr-defined]


def test_generation_ends_at_a_stop_token_and_at_the_context(checkpoint: Path, tokenizer: Tokenizer) -> None:
    """Guards <|end|> in the text, and a position behind max_seq_len."""
    completer = open_completer(checkpoint)
    full = completer.complete(completer.check({"prompt": [5] * 30, "max_tokens": 50, "temperature": 0}))
    assert full["usage"]["completion_tokens"] == 2
    assert full["choices"][0]["finish_reason"] == "length"
    (first,) = greedy(checkpoint, [5] * 30, 1)
    completer.stop_ids = {first}
    stopped = completer.complete(completer.check({"prompt": [5] * 30, "max_tokens": 50, "temperature": 0}))
    assert stopped["choices"][0] == full["choices"][0] | {"text": "", "finish_reason": "stop"}
    assert open_completer(checkpoint).stop_ids == {
        tokenizer.special_tokens[name] for name in ("<|endoftext|>", "<|end|>")
    }
