"""gpt/train/progress.py: one line, never wider than a terminal."""

import pytest

from gpt.train.progress import MAX_COLUMNS, Progress

FULL = {
    "loss": 3.41234,
    "val_loss": 3.51,
    "tokens_per_s": 1_234_567.0,
    "mfu": 0.412,
    "dollars": 12.345,
}


def test_a_line_by_hand() -> None:
    """Guards: a figure that is missing or has no unit. At the last step nothing is left to wait for."""
    line = Progress("pretrain", 600).line(600, FULL)
    assert line == "pretrain 600/600 | loss 3.412 | val 3.510 | 1.23M tok/s | eta 0:00:00 | $12.35"
    short = Progress("pretrain", 600).line(600, {k: v for k, v in FULL.items() if k != "val_loss"})
    assert short == "pretrain 600/600 | loss 3.412 | 1.23M tok/s | mfu 41% | eta 0:00:00 | $12.35"


@pytest.mark.parametrize("name", ["scale-dense", "ladder multi_head", "n" * 90])
def test_no_line_is_wider_than_a_terminal(name: str) -> None:
    """Guards: an in-place line that wraps and scrolls. The widest: a long name, six digits of steps, days."""
    progress = Progress(name, 999_999)
    progress.started -= 3_000_000
    line = progress.line(500_000, FULL | {"loss": 123.4567, "dollars": 12345.6})
    assert len(line) <= MAX_COLUMNS
    if len(name) < 20:
        assert "loss 123.457" in line
        assert "eta 833:19:" in line
        assert "$12345.60" in line


def test_elsewhere_than_a_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: carriage returns in a log file."""
    progress = Progress("a", 2)
    progress.show(1, {"loss": 1.0})
    progress.say("text")
    progress.show(2, {"loss": 1.0})
    error = capsys.readouterr().err
    assert "\r" not in error
    assert [line.split(" ")[0] for line in error.splitlines()] == ["a", "text", "a"]


def test_on_a_terminal_the_line_is_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a text printed behind the line instead of below it."""
    progress = Progress("a", 3)
    monkeypatch.setattr(progress, "is_terminal", True)
    progress.show(1, {"loss": 1.0})
    progress.show(2, {"loss": 1.0})
    progress.say("text")
    error = capsys.readouterr().err
    assert error.count("\r") == 2
    assert error.count("\n") == 2
    assert error.endswith("\ntext\n")
