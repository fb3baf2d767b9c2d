"""`rawgpt chat`: scripted sessions through a pipe."""

import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.catalog.open_model import open_model
from gpt.generate.batch_engine import BatchEngine, Request
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step
from gpt.generate.generate_text import generate_text
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.report.plain_text import printable
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer
from rawgpt.chat_session import HELP
from rawgpt.main import run
from tests.generate.tiny_checkpoint import save_tiny

LINE = ["chat", "--seed", "5", "--max-tokens", "6"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """A working directory with a tuned model whose context is 64 tokens."""
    save_tiny(tmp_path / "models/finetune/checkpoint", modern, tokenizer, never_stops=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Talk:
    """Runs a session through a pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *lines: str, argv: list[str] = LINE) -> tuple[int, str, str]:
        """Return the exit code, stdout and stderr."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = run(argv)
        return code, *self.capfd.readouterr()


@pytest.fixture
def talk(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Talk:
    """A session in a directory with a model."""
    return Talk(monkeypatch, capfd)


def reference(messages: list[dict[str, str]], seed: int, **dials: float) -> str:
    """Return what the engine of one sequence answers."""
    opened = open_model("finetune")
    prompt_ids = encode_prompt(opened.tokenizer, messages)
    sampling = SamplingConfig(max_tokens=6, seed=seed, temperature=0.8, **dials)  # type: ignore[arg-type]
    pieces = generate_text(opened.model, opened.tokenizer, prompt_ids, sampling)
    return printable("".join(piece.text for piece in pieces))


def test_a_pipe_gets_the_answers_alone(talk: Talk) -> None:
    """Guards: prompts or notes among the answers; a dial or the system prompt that is not handed on."""
    code, out, err = talk("hi", argv=[*LINE, "--system", "Be kind.", "--top-k", "40", "--top-p", "0.9"])
    told = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    assert (code, out) == (0, reference(told, 5, top_k=40, top_p=0.9) + "\n")
    assert err == "(cut: --max-tokens, or the context is full)\n"


def test_turns_depend_on_the_history_and_seeds_count_up(talk: Talk) -> None:
    """Guards: a second turn without the first; the same draws in every turn."""
    _, both, _ = talk("hi", "", "hi")
    _, first, _ = talk("hi")
    assert both.startswith(first)
    second = both[len(first) :]
    _, alone, _ = talk("hi", argv=["chat", "--seed", "6", "--max-tokens", "6"])
    assert second != alone
    _, cleared, _ = talk("hi", "/clear", "hi")
    assert cleared == first + alone
    assert talk("hi", argv=[*LINE, "--prompt", "hi"])[1] == both


def test_retry_asks_anew_and_seed_repeats(talk: Talk) -> None:
    """Guards: a retry that hears its own first answer, or that gives the same one."""
    _, out, _ = talk("hi", "/retry", "/seed 5", "/retry")
    (first, second, third), alone = out.splitlines(), talk("hi")[1]
    assert first + "\n" == third + "\n" == alone
    assert second != first


def test_a_retry_that_fails_loses_nothing(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an exchange that is gone when it cannot be asked again, or Ctrl-C comes before its first
    token."""
    code, out, err = talk("hi", f"/system {'a' * 200}", "/retry", "/system", "/retry")
    assert (code, "shorten it" in err) == (1, True)
    assert out == talk("hi", "/retry")[1]
    step, n_answers = BatchEngine.step, 0

    def interrupted(self: BatchEngine) -> list[tuple[Request, Step]]:
        nonlocal n_answers
        n_answers += not any(request.token_ids for request in self.running)
        if n_answers != 2:
            return step(self)
        signal.raise_signal(signal.SIGINT)
        return []

    monkeypatch.setattr(BatchEngine, "step", interrupted)
    code, out, err = talk("hi", "/retry", "/seed 6", "/retry")
    monkeypatch.setattr(BatchEngine, "step", step)
    assert (code, err.split("\n")[1]) == (0, "(stopped)")
    assert out.replace("\n\n", "\n") == talk("hi", "/retry")[1]


def test_behind_the_largest_seed_follows_the_smallest(talk: Talk) -> None:
    """Guards: a seed that is let in and then ends the first question."""
    largest = ["chat", "--seed", str(2**63 - 1), "--max-tokens", "6"]
    code, out, _ = talk("hi", "hi", argv=largest)
    assert code == 0
    assert out == talk("hi", f"/seed {-(2**63)}", "hi", argv=largest)[1]
    assert out != talk("hi", "/seed 7", "hi", argv=largest)[1]


def test_system_and_slashes(talk: Talk) -> None:
    """Guards: /system that does nothing; a text with a slash that cannot be sent."""
    _, out, _ = talk("/system Be kind.", "//x", "/system", "/clear", "/seed 5", "/x/y")
    told = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "/x"}]
    assert out == reference(told, 5) + "\n"


def test_save_writes_the_chat_once(talk: Talk, here: Path) -> None:
    """Guards: a chat lost, or another one overwritten."""
    code, out, err = talk(
        "hi", "/save chat.json", "/save chat.json", "/save", "/save no/folder/x", "/quit", "hi"
    )
    chat = json.loads((here / "chat.json").read_text())
    assert [m["role"] for m in chat["messages"]] == ["user", "assistant"]
    assert printable(chat["messages"][1]["content"]) + "\n" == out
    assert chat["sha256"] == open_model("finetune").sha256
    assert code == 1
    for words in ("is there already", "/save: a file is needed", "/save: no/folder/x: No such file"):
        assert words in err
    assert sorted(path.name for path in here.iterdir()) == ["chat.json", "models"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/nope", "/nope: no such command; /help lists them"),
        ("/seed x", "/seed: a whole number is needed, got 'x'"),
        ("/seed 99999999999999999999", "seed: a 64-bit"),
        ("/retry", "/retry: nothing was asked yet"),
        ("a" * 200, "but the context is 64; shorten it"),
    ],
)
def test_a_wrong_line_is_named_and_the_chat_goes_on(talk: Talk, line: str, words: str) -> None:
    """Guards: a typo that ends a chat; a script whose lost question nobody hears of."""
    code, out, err = talk(line, "hi")
    assert code == 1
    assert words in err
    assert out == talk("hi")[1]


def test_an_outgrown_context_is_said_once(talk: Talk) -> None:
    """Guards: an error at turn ten; a history that shrinks in silence, or with a line a turn."""
    code, out, err = talk(*["hi"] * 12)
    assert code == 0
    assert len(out.strip().split("\n")) >= 12
    assert err.count("outgrew the context of 64 tokens") == 1


def test_a_base_model_is_refused_with_what_to_type(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a chat with a model that never ends its turn."""
    monkeypatch.setattr("gpt.catalog.chat_ability.LEAST", float("inf"))
    code, out, err = talk("hi")
    assert (code, out) == (1, "")
    assert "never tuned on the chat template; type `rawgpt sample --model finetune --prompt TEXT`" in err


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an interrupt that ends the program, leaves the engine busy, or is forgotten by the history."""
    step, prompts, n_steps = BatchEngine.step, [], 0

    def interrupted(self: BatchEngine) -> list[tuple[Request, Step]]:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 3:
            signal.raise_signal(signal.SIGINT)
        (running,) = [*self.running, *self.waiting]
        prompts.append(running.prompt_ids)
        return step(self)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(BatchEngine, "step", interrupted)
    code, out, err = talk("hi", "hi")
    assert (code, err.split("\n")[0]) == (0, "(stopped)")
    assert len(prompts) == 3 + 6
    assert prompts[3][:5] == prompts[0]
    assert len(prompts[3]) == 5 + 3 + 1 + 5  # the question, three tokens, the turn's end, the question
    assert len(out.split("\n")) >= 3
    assert signal.getsignal(signal.SIGINT) == before


def test_a_turn_computes_its_own_tokens_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    modern: ModelConfig,
    tokenizer: Tokenizer,
) -> None:
    """Guards: a chat whose every turn computes all turns before it again.

    Of the turns before, a block of 16 positions that was not full, and the last token, may be computed anew.
    """
    save_tiny(tmp_path / "models/finetune/checkpoint", modern, tokenizer, max_seq_len=512, never_stops=True)
    monkeypatch.chdir(tmp_path)
    fed: list[int] = []
    hidden_states = Transformer.hidden_states

    def counted(self: Transformer, token_ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        fed.append(token_ids.numel())
        return hidden_states(self, token_ids, *rest)

    monkeypatch.setattr(Transformer, "hidden_states", counted)
    argv = ["chat", "--temperature", "0", "--max-tokens", "40"]
    code, _, _ = Talk(monkeypatch, capfd)("b" * 50, "b" * 50, "b" * 50, argv=argv)
    assert code == 0
    turns = [n for n in fed[1:] if n > 1]  # the first is the probe of whether the model can chat
    question = len(encode_prompt(tokenizer, [{"role": "user", "content": "b" * 50}]))
    assert len(turns) == 3
    assert turns[0] == question
    assert max(turns[1:]) <= question + 2 + 16


def test_help_fits_a_terminal() -> None:
    """Guards: lines of our own that a terminal of 80 columns breaks."""
    assert max(len(line) for line in HELP.splitlines()) <= 80
