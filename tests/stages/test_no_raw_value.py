"""A user's own logs, full of invented personal data: no raw value in what the stages leave."""

import base64
import json
import random
import re
from pathlib import Path

import pytest
import yaml

from gpt.corpus.hinglish import generate_chats, generate_payment_logs
from gpt.corpus.log_record import record_texts
from gpt.corpus.planted import count_leaks
from tests.stages.conftest import CHAIN, run_stage, tiny_params

BUILT_FROM = ("data", "models", "mlflow", "reports")


def write_own_logs(folder: Path) -> list[str]:
    """Write chats and payment logs as a user has them, ids and file names included; return the values."""
    rng = random.Random(11)
    made = [*generate_chats(150, seed=77, planted_fraction=1.0)]
    made += generate_payment_logs(100, seed=77, planted_fraction=1.0)
    values = [value for g in made for value in g.planted]
    folder.mkdir()
    phone, mail = "9812345670", "sunita.verma@gmail.com"
    with (folder / "chats.jsonl").open("w", encoding="utf-8") as file:
        for i, generated in enumerate(made):
            key = phone if i == 0 else mail if i == 1 else f"r{rng.randrange(10**6)}-{i}"
            record = {"text": "\n".join(record_texts(generated.record)), "id": key}
            if i % 3 == 0 and i > 1:
                del record["id"]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / f"{phone}.txt").write_text("sab theek hai, refund aa gaya\n" * 8, encoding="utf-8")
    return [*values, phone, mail]


def written(root: Path) -> dict[Path, str]:
    """Read every file below the artefact folders as text; a token file's bytes are read as they are."""
    texts = {}
    for name in BUILT_FROM:
        for path in sorted((root / name).rglob("*")):
            if path.is_file():
                texts[path.relative_to(root)] = path.read_bytes().decode("utf-8", errors="replace")
    return texts


def strings_of(value: str) -> list[str]:
    """A planted value as a search finds it: as it stands, and its digits in a row for long numbers."""
    digits = re.sub(r"[^0-9]", "", value)
    return [value, digits] if len(digits) >= 10 and value.isascii() else [value]


@pytest.mark.parametrize(
    ("redact", "tracked"),
    [(True, False), (False, False), pytest.param(True, True, marks=pytest.mark.slow)],  # its uploader waits
)
def test_no_planted_value_is_left_anywhere(
    redact: bool,
    tracked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Documents, ids, token files, tokenizer, metrics, the tracker's database and journal, stderr.

    With the dial off the same search must find the values: a test that sees nothing proves nothing.
    """
    monkeypatch.chdir(tmp_path)
    values = write_own_logs(tmp_path / "own")
    params = tiny_params()
    params["fetch"] |= {"source": "./own", "redact": redact, "min_chars": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with monkeypatch.context() as environment:
        if tracked:
            environment.delenv("RAWGPT_TRACKING")
            environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_stage("fetch", *CHAIN["fetch"]) == 0
    for name in ("tokenize", "shard"):
        assert run_stage(name, *CHAIN[name]) == 0
    assert run_stage("logs", "--files", "data/fetch/files", "--out", "data/logs") == 0
    texts = written(tmp_path)
    texts[Path("stdout and stderr")] = "".join(capfd.readouterr())
    tokens = (tmp_path / "models/tokenize/tokenizer/tokenizer.json").read_text(encoding="utf-8")
    ranks = [base64.b64decode(rank).decode("utf-8", errors="replace") for rank in json.loads(tokens)["ranks"]]
    texts[Path("vocabulary")] = "\n".join(ranks)
    numbers = [value for value in values if re.search(r"[0-9@]", value)]
    found = {
        (path, text)
        for path, content in texts.items()
        for v in numbers
        for text in strings_of(v)
        if text in content
    }
    documents = "\n".join(
        json.dumps(json.loads(line), ensure_ascii=False)
        for line in (tmp_path / "data/fetch/files/documents.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert len(numbers) > 200
    assert tracked == any("mlflow" in path.parts for path in texts), "what was tracked is searched"
    if redact:
        assert not found
        assert count_leaks(values, documents) <= 0.01 * len(values)  # names too, by their words
    else:
        assert len({text for _, text in found}) > 150
        assert count_leaks(values, documents) > 0.9 * len(values)


def test_messages_quote_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error about a broken record ends in a log file: it must name the place, not the content."""
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    (tmp_path / "own").mkdir()
    for content in ('{"text": 9812345670}', '{"text": "call 9812345670"', '["9812345670"]'):
        (tmp_path / "own" / "a.jsonl").write_text(content + "\n")
        params["fetch"] |= {"source": "./own", "redact": True}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        assert run_stage("fetch", "--out", "data/fetch") == 1
        said = "".join(capfd.readouterr())
        assert "a.jsonl" in said
        assert "9812345670" not in said
