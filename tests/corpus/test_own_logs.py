"""A user's own logs: three forms, four encodings, and every kind of bad line named and counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpt.corpus.log_lines import MAX_LINE_BYTES
from gpt.corpus.log_record import record_texts
from gpt.corpus.own_logs import OwnLogs, read_own_logs
from tests.corpus.records import own_config

GOOD = '{"prompt": "refund kab?", "response": "kal tak"}'


def read(folder: Path, **changes: Any) -> OwnLogs:
    config = own_config(str(folder), **{"max_bad_fraction": 1.0, **changes})
    return read_own_logs(config, val_fraction=0.5, seed=1)


def texts(logs: OwnLogs) -> list[list[str]]:
    return [record_texts(draft.record) for draft in logs.drafts]


def test_three_forms_in_two_kinds_of_file(tmp_path: Path) -> None:
    """Chats, questions with answers, raw lines; other field names by the dials; roles by any usual word."""
    turns = [{"who": "Customer", "said": "refund?"}, {"who": "agent", "said": "kal"}]
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"chat": turns, "q": "not this"})
        + "\n\n"
        + json.dumps({"q": "kyc?", "a": "pending"})
        + "\n"
        + json.dumps({"line": "UPI ok", "q": "no answer beside it"})
        + "\n"
    )
    (tmp_path / "b.csv").write_text('n,q,a\r\n1,"emi,\nkab?",kal\r\n2,otp?,no\r\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.log").write_text("raw one\n\nraw two\n")
    (tmp_path / "README.md").write_text("not a log")
    fields = {"messages_field": "chat", "role_field": "who", "content_field": "said"}
    fields |= {"prompt_field": "q", "response_field": "a", "text_field": "line"}
    logs = read(tmp_path, **fields)
    assert texts(logs) == [
        ["refund?", "kal"],
        ["kyc?", "pending"],
        ["UPI ok"],
        ["emi,\nkab?", "kal"],
        ["otp?", "no"],
        ["raw one"],
        ["raw two"],
    ]
    assert [m["role"] for m in logs.drafts[0].record["messages"]] == ["user", "assistant"]
    assert [draft.record["kind"] for draft in logs.drafts[:3]] == ["chat", "chat", "payment_log"]
    assert logs.n_bad == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    """Guards: an old export that ends the stage, or whose letters become other letters. UTF-16 big-endian
    as well; only what is not UTF-8 counts as recoded."""
    text = '{"text": "Café £5 refund"}\n{"text": "plain"}\n'
    (tmp_path / "a.jsonl").write_bytes(text.encode(encoding))
    if encoding == "utf-16":
        (tmp_path / "b.jsonl").write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    logs = read(tmp_path)
    assert texts(logs) == [["Café £5 refund"], ["plain"]] * (2 if encoding == "utf-16" else 1)
    assert logs.n_recoded == (encoding == "cp1252")


LONG = "x" * 1001
BAD_LINES = {
    b'{"text": "open': "not_json",
    b"[" * 100_000: "not_json",
    b'["text"]': "not_an_object",
    b'{"other": "text"}': "no_known_field",
    b'{"text": 5}': "not_text",
    b'{"text": "  "}': "empty",
    b'{"text": "a\\u0000b"}': "nul_byte",
    b'{"text": "a\0b"}': "nul_byte",
    b'{"text": "haan \\ud83d"}': "half_a_character",
    b'{"text": "\x81\x8d"}': "encoding",
    b'{"text": "' + LONG.encode() + b'"}': "turn_too_long",
    b'{"text": "' + b"y" * 10_000_000 + b'"}': "line_too_long",
    b'{"messages": "[]x"}': "messages_not_json",
    b'{"messages": ["hello"]}': "messages_not_a_list",
    b'{"messages": [{"role": "robot", "content": "hi"}]}': "unknown_role",
    b'{"messages": [{"role": ["user"], "content": "hi"}]}': "unknown_role",
    b'{"messages": [{"role": "user"}]}': "not_text",
    b'{"messages": []}': "no_answer",
    b'{"messages": [{"role": "user", "content": "hi"}, {"role": "bot", "content": " "}]}': "no_answer",
    b'{"prompt": null, "response": "x"}': "not_text",
}


@pytest.mark.parametrize(("line", "rule"), BAD_LINES.items(), ids=lambda value: str(value[:24]))
def test_a_bad_line_is_named_and_the_next_one_is_read(tmp_path: Path, line: bytes, rule: str) -> None:
    """Guards: one broken line that ends the stage, swallows its neighbour, or is dropped in silence."""
    (tmp_path / "a.jsonl").write_bytes(GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode() + b"\n")
    logs = read(tmp_path)
    assert texts(logs) == [["refund kab?", "kal tak"]] * 2
    assert logs.named == [f"a.jsonl:2: {rule}"]
    assert logs.metrics() == {
        "own_lines": 3,
        "own_bad": 1,
        "own_recoded": 0,
        "own_empty_turns": int(b'" "' in line),
        f"own_bad_{rule}": 1,
    }


def test_bad_rows_of_a_csv(tmp_path: Path) -> None:
    """A row too short, a quote in the middle, and a quote that never ends: three rules, the rest is read.

    Guards: lines that an open quote swallows and that nobody counts.
    """
    rows = ["prompt,response", "a,b", "a", '"a"x,b', "c,d", "\x00,b", 'e,"open', "f,g", "", "h,i"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    logs = read(tmp_path)
    assert texts(logs) == [["a", "b"], ["c", "d"]]
    assert logs.named[:3] == ["a.csv:3: columns", "a.csv:4: not_csv", "a.csv:6: nul_byte"]
    assert logs.named[3:] == ["a.csv:7: not_csv"]
    assert logs.metrics()["own_bad_not_csv"] == 4  # line 4, and 7, 8 and 10
    assert (logs.n_lines, logs.n_bad) == (8, 6)


def test_a_blank_line_inside_a_field_stays(tmp_path: Path) -> None:
    """Guards: paragraphs of an answer run together, and a blank line between two rows that is a bad row."""
    (tmp_path / "a.csv").write_text('prompt,response\n\na,"one\n\ntwo"\n\nb,c\n')
    logs = read(tmp_path)
    assert texts(logs) == [["a", "one\n\ntwo"], ["b", "c"]]
    assert logs.n_bad == 0


def test_empty_turns_go_and_their_neighbours_join(tmp_path: Path) -> None:
    """Guards: two user turns in a row, an empty turn that is learned as an answer."""
    turns = [("user", "hi"), ("assistant", ""), ("user", "refund?"), ("assistant", "kal"), ("user", "")]
    row = {"messages": [{"role": r, "content": c} for r, c in turns]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    logs = read(tmp_path)
    assert texts(logs) == [["hi\nrefund?", "kal"]]
    assert logs.n_empty_turns == 2


def test_too_many_bad_lines_are_refused(tmp_path: Path) -> None:
    """One bad line in 100 passes at 0.01, two do not; the message names file and line and quotes nothing."""
    lines = [GOOD] * 99 + ['{"text": "call 9812345670"']
    (tmp_path / "9812345670.jsonl").write_text("\n".join(lines))
    assert len(read(tmp_path, max_bad_fraction=0.01).drafts) == 99
    (tmp_path / "9812345670.jsonl").write_text("\n".join([*lines[1:], lines[-1]]))
    with pytest.raises(ValueError, match=r"max_bad_fraction: 2 of 100 .*\.jsonl:99: not_json") as caught:
        read(tmp_path, max_bad_fraction=0.01)
    assert "9812345670" not in str(caught.value)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """Guards: a typing error in the dial, or a spreadsheet, that trains without the user's logs."""
    with pytest.raises(ValueError, match=r"logs\.own\.folder: .*no such folder"):
        read(tmp_path / "nothing")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a\.xlsx: kinds that are read: \.jsonl \.csv"):
        read(tmp_path)
    assert read_own_logs(own_config(""), val_fraction=0.5, seed=1) == OwnLogs()


def test_no_line_is_held_longer_than_its_limit(tmp_path: Path) -> None:
    """Guards: a dump of one line that fills the memory; a line right at the limit is still read."""
    fits = '{"text": "' + "a" * (MAX_LINE_BYTES - 13) + '"}\n'
    assert len(fits) == MAX_LINE_BYTES
    (tmp_path / "a.jsonl").write_text(fits + "b" * (MAX_LINE_BYTES + 1) + "\n" + GOOD)
    logs = read(tmp_path, max_turn_chars=MAX_LINE_BYTES)
    assert len(logs.drafts) == 2
    assert logs.named == ["a.jsonl:2: line_too_long"]
