"""Engine and text stream together: text, tokens and logprobs stay in step."""

import pytest

from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import Piece, generate_text
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import random_model


@pytest.fixture
def model(modern: ModelConfig) -> Transformer:
    return random_model(modern)


def pieces_of(
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    stop: tuple[str, ...] = (),
    seed: int = 0,
    max_tokens: int = 24,
) -> list[Piece]:
    sampling = SamplingConfig(max_tokens=max_tokens, seed=seed)
    return list(generate_text(model, tokenizer, tokenizer.encode("Shall I"), sampling, stop=stop))


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_text_is_the_tokens_text(model: Transformer, tokenizer: Tokenizer) -> None:
    """Text lost or doubled at a border; random bytes leave many characters incomplete."""
    for seed in range(12):
        pieces = pieces_of(model, tokenizer, seed=seed)
        tokens = [token for piece in pieces for token in piece.tokens]
        assert text_of(pieces) == tokenizer.decode([token.step.token_id for token in tokens])
        is_stopped = pieces[-1].finish_reason == "stop"  # by a special token, which is no text
        assert pieces[-1].n_tokens == len(pieces) == len(tokens) + is_stopped
        assert all(piece.finish_reason is None for piece in pieces[:-1])
        offsets = [token.text_offset for token in tokens]
        assert offsets == sorted(offsets)
        assert offsets[:1] in ([0], [])


def test_special_tokens_end_the_text(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """`<|end|>` in a reader's face."""
    model = random_model(modern)
    stopped = 0
    for seed in range(20):
        pieces = pieces_of(model, tokenizer, seed=seed)
        assert "<|" not in text_of(pieces)
        stopped += pieces[-1].finish_reason == "stop"
    assert stopped > 0, "no seed drew a special token: this test shows nothing"


def test_stop_string_ends_text_and_tokens(model: Transformer, tokenizer: Tokenizer) -> None:
    """Logprobs of text behind the stop, or the stop itself, handed out."""
    for seed in range(10):
        whole = text_of(pieces_of(model, tokenizer, seed=seed))
        if len(whole) < 8:
            continue
        stop = whole[5:8]
        pieces = pieces_of(model, tokenizer, stop=(stop,), seed=seed)
        text = text_of(pieces)
        assert text == whole[: whole.index(stop)]
        assert pieces[-1].finish_reason == "stop"
        offsets = [token.text_offset for piece in pieces for token in piece.tokens]
        assert all(offset < max(len(text), 1) for offset in offsets)
