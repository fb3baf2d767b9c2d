"""The `rawgpt` command: every mistake is one line and exit code 1; every subcommand has its page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from rawgpt.exit_codes import PassingFailure
from rawgpt.main import COMMANDS, run
from tests.generate.tiny_checkpoint import save_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """A working directory with a pretrained model."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("smaple", "No such command 'smaple'. Did you mean 'sample'?"),
        ("sample --temprature 1", "No such option: --temprature"),
        ("sample --temperature -1", "temperature: 0 (greedy) or"),
        ("sample --temperature warm", "--temperature"),
        ("sample --max-tokens 0", "max_tokens: at least 1"),
        ("sample --top-p 2", "top_p: "),
        ("sample --stop=", "stop: an empty text"),
        ("sample --model pretrian", "did you mean pretrain?"),
        ("sample --model finetune", "run `dvc repro finetune` first (available: pretrain)"),
        ("sample --model smollm2", "did you mean smollm2-135m?"),
        ("sample --device tpu", "device: got 'tpu'"),
        ("sample --prompt " + "a" * 200, "do not fit the context of 64"),
        ("serve --port 70000", "port: 0..65535"),
        ("serve --max-waiting -1", "max_waiting: 0 or more"),
        ("serve --cache-tokens 0", "cache_tokens: "),
        ("serve --port 0 --host 0.0.0.0", "there is no key; set RAWGPT_API_KEYS"),
        ("serve --port 0 --api-key short", "api_keys: key 1 of 1 must be 16 or more"),
        ("serve --port 0 --model nothing", "no stage, no file and no folder"),
        ("plan", "dvc.yaml: no such file"),
        ("summary", "not made yet; run `dvc repro`"),
    ],
)
def test_a_mistake_is_one_line_and_exit_1(
    here: Path, capfd: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    """A traceback, click's exit code 2, or a box drawn around the words."""
    assert run(line.split()) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("rawgpt")
    assert err.count("\n") == 1
    assert len(err) < 400


def test_verify_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty chain that is called whole."""
    monkeypatch.chdir(tmp_path)
    assert run(["verify"]) == 1


def test_sample_prints_text_json_and_repeats_with_a_seed(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A printed text that is not the text of --json; a seed that is not used or not shown."""
    line = ["sample", "--prompt", "Shall I", "--max-tokens", "20"]
    assert run([*line, "--seed", "5"]) == 0
    text = capfd.readouterr().out
    assert run([*line, "--seed", "5", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["text"] + "\n" == text
    assert (result["model"], result["prompt"], result["seed"]) == ("pretrain", "Shall I", 5)
    assert result["n_tokens"] <= 20
    assert run([*line, "--json"]) == 0
    drawn = json.loads(capfd.readouterr().out)
    assert run([*line, "--json", "--seed", str(drawn["seed"])]) == 0
    assert json.loads(capfd.readouterr().out) == drawn
    assert run(["sample", "--chat", "--prompt", "hi", "--json", "--seed", "1"]) == 0
    chat = json.loads(capfd.readouterr().out)
    assert chat["n_prompt_tokens"] == 5  # <|user|> h i <|end|> <|assistant|>


def test_faults_and_passing_failures_have_codes_of_their_own(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fault of ours blamed on the user, or retried for ever."""

    def failing(error: Exception) -> None:
        def raise_it(*args: object) -> None:
            raise error

        monkeypatch.setattr("rawgpt.verify.model_links", raise_it)

    failing(RuntimeError("a bug"))
    assert run(["verify"]) == 2
    assert "please report it" in capfd.readouterr().err
    failing(PassingFailure("locked"))
    assert run(["verify"]) == 75
    failing(ConnectionError("no route"))
    assert run(["verify"]) == 75
    failing(PermissionError(13, "Permission denied", "models"))
    assert run(["verify"]) == 1
    assert capfd.readouterr().err.endswith("rawgpt verify: models: Permission denied\n")


def test_every_command_has_a_page_and_help_needs_no_torch() -> None:
    """`--help` that takes as long as a model; a command without a sentence."""
    code = (
        "import sys; from rawgpt.main import run; "
        f"codes = [run([c, '--help']) for c in {[c.__name__ for c in COMMANDS]}]; "
        "assert codes == [0] * len(codes), codes; "
        "heavy = {'torch', 'fastapi', 'mlflow', 'prefect', 'dvc'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"Usage: rawgpt {command.__name__}" in done.stdout
        first = (command.__doc__ or "").splitlines()[0].replace("`", "")
        assert re.sub(r"\s+", " ", first) in re.sub(r"\s+", " ", done.stdout)


def test_a_closed_pipe_is_no_fault(here: Path) -> None:
    """`rawgpt sample | head` that ends with a complaint, or with 75: a broken pipe is a ConnectionError."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rawgpt", "sample", "--seed", "1"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # long before the first text
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
