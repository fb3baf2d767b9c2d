"""gpt/tokenizer/vocab_file.py: damaged files are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer, save_tokenizer


def test_no_file_says_what_to_run(tmp_path: Path) -> None:
    """Guards: a traceback of a stage that was not run."""
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such tokenizer; run `dvc repro tokenize`"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:100], "damaged"),
        (lambda text: text.replace("rawgpt-tokenizer-1", "other"), "format 'other'"),
        (lambda text: text.replace('"n_vocab": 320', '"n_vocab": 321'), "token count 320"),
        (lambda text: text.replace('"bpe"', '"unigram"'), "kind 'unigram'"),
        (lambda text: text.replace('"AA=="', '"A!=="'), "damaged"),
        (lambda text: text.replace('"AA=="', '"AQ=="'), "a token twice"),
        (lambda text: text.replace('"AA=="', '""'), "an empty one"),
        (lambda text: "[1]", "damaged"),
        (lambda text: text + "\x00", "damaged"),
    ],
    ids=["half", "format", "count", "kind", "base64", "twice", "empty", "list", "tail"],
)
def test_damaged_files_are_refused_by_name(
    tmp_path: Path, tokenizer: Tokenizer, damage: Callable[[str], str], message: str
) -> None:
    """Guards: a traceback without a file, or a tokenizer with a token missing."""
    save_tokenizer(tmp_path, tokenizer)
    path = tmp_path / "tokenizer.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(damage(whole), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != whole
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("ids", [[315, 315, 317, 318, 319], [315, 316, 317, 318, 320]])
def test_special_ids_are_refused(tmp_path: Path, tokenizer: Tokenizer, ids: list[int]) -> None:
    """Guards: a special token that is another's id, or none of the vocabulary's."""
    save_tokenizer(tmp_path, tokenizer)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["special_tokens"] = dict(zip(content["special_tokens"], ids, strict=True))
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="special_tokens: an id twice, or out of range"):
        load_tokenizer(tmp_path)


def test_files_are_the_same_each_time(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: an order of keys that changes DVC's hash. The file for people names every id."""
    for name in ("a", "b"):
        save_tokenizer(tmp_path / name, tokenizer)
    for file in ("tokenizer.json", "merges.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    lines = (tmp_path / "a" / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(i) for i in range(320)]
