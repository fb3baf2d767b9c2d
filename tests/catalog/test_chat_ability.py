"""gpt/catalog/chat_ability.py: the weights say whether a model was tuned on the chat template."""

from pathlib import Path

import pytest
import torch

from gpt.catalog.chat_ability import ANSWER, QUESTION, can_chat, turn_end
from gpt.catalog.open_model import OpenModel, open_model
from gpt.model.config import ModelConfig
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.special_tokens import END
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny


@pytest.fixture
def opened(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> OpenModel:
    """A model of random weights, for which every token is about as likely as any."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    return open_model("pretrain", root=tmp_path / "models")


def test_a_model_that_never_ends_a_turn_cannot_chat(opened: OpenModel) -> None:
    """Guards: `chat` with a base model, whose answers end where the context does."""
    assert can_chat(opened)
    end = opened.tokenizer.special_tokens[END]
    prompt_ids = encode_prompt(opened.tokenizer, [{"role": "user", "content": QUESTION}])
    ids = torch.tensor([prompt_ids + opened.tokenizer.encode(ANSWER)])
    with torch.no_grad():
        away = -opened.model.hidden_states(ids)[0].mean(0)  # (C,): against every state of the answer
        opened.model.embed.weight[end] = 100 * away
    assert not can_chat(opened)


def test_an_answer_that_the_context_cannot_hold(
    tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer
) -> None:
    """Guards: a probe longer than the context, which is a fault where an answer was asked for."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer, max_seq_len=16)
    assert not can_chat(open_model("pretrain", root=tmp_path / "models"))


def test_a_turn_ends_as_the_template_says(tokenizer: Tokenizer) -> None:
    """Guards: a history whose turns are closed by other ids than a prompt's."""
    turns = [{"role": "user", "content": "hi"}]
    ids = encode_prompt(tokenizer, turns)
    assert turn_end(tokenizer) == [tokenizer.special_tokens[END]]
    assert ids[-2:-1] == turn_end(tokenizer)
