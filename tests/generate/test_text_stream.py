"""Incremental text: the same however the bytes are cut."""

from hypothesis import given
from hypothesis import strategies as st

from gpt.generate.text_stream import TextStream

FEW = st.text(alphabet="ab\nपै🎭", max_size=20)  # few symbols, so that stops occur; 1, 3 and 4 bytes each


def cut_at_stop(text: str, stops: list[str]) -> str:
    """The text in front of the stop string that is complete first; the slow way."""
    for end in range(len(text) + 1):
        begins = [end - len(s) for s in stops if text[:end].endswith(s)]
        if begins:
            return text[: min(begins)]
    return text


@given(FEW, st.lists(st.text(alphabet="ab\nप", min_size=1, max_size=3), max_size=3), st.data())
def test_text_does_not_depend_on_the_cuts(text: str, stops: list[str], data: st.DataObject) -> None:
    """Half characters as U+FFFD, a stop string missed over a border, or its beginning let out."""
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    expected = cut_at_stop(text, stops)
    stream, out = TextStream(stops), ""
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        out += stream.push(raw[begin:end])
        assert expected.startswith(out)
        assert stream.released_chars == len(out)
    out += stream.finish()
    assert out == expected
    assert stream.stopped == (expected != text or any(text.endswith(s) for s in stops))


def test_a_split_character_waits() -> None:
    """Devanagari a byte at a time: nothing, nothing, the letter."""
    stream = TextStream()
    assert [stream.push(bytes([b])) for b in "प".encode()] == ["", "", "प"]


def test_a_possible_stop_waits_and_is_let_out_when_it_is_none() -> None:
    """Text held back for ever, or let out too soon."""
    stream = TextStream(["\nUser:"])
    assert stream.push(b"hi\nUs") == "hi"
    assert stream.offset_of(b"age") == 5
    assert stream.push(b"age") == "\nUsage"
    assert stream.push(b"\nUser") == ""
    assert stream.push(b": more") == ""
    assert stream.stopped
    assert stream.finish() == ""


def test_an_incomplete_end_becomes_the_replacement_character() -> None:
    """Bytes dropped in silence at max_tokens."""
    stream = TextStream()
    assert stream.push("aप".encode()[:-1]) == "a"
    assert stream.finish() == "\ufffd"


def test_offsets_count_a_character_that_never_ended() -> None:
    """Logprobs that point one character too far left behind half a letter."""
    stream = TextStream()
    assert stream.push(b"a\xe0") == "a"
    assert stream.offset_of(b"\xa4\xaa") == 1  # it would complete the letter that begins there
    assert stream.offset_of(b"b") == 2
    assert stream.push(b"b") == "\ufffdb"


def test_of_two_stops_the_one_that_is_complete_first_counts() -> None:
    """`aba` begins sooner, `b` is complete sooner; byte by byte `a` is out before `aba` is seen."""
    stream = TextStream(["aba", "b"])
    assert stream.push(b"aba") == "a"
    assert stream.stopped
