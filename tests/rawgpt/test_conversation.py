"""rawgpt/conversation.py: the ids of a chat, and what it forgets."""

import pytest

from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.special_tokens import END, END_OF_TEXT
from gpt.tokenizer.tokenizer import Tokenizer
from rawgpt.conversation import Conversation

CONTEXT = 100


def test_the_prompt_is_the_template_s(tokenizer: Tokenizer) -> None:
    """Guards: a history put together by hand that differs from what the model was trained on."""
    conversation = Conversation(tokenizer, CONTEXT, "Be kind.")
    for ending in ([tokenizer.special_tokens[END]], [tokenizer.special_tokens[END_OF_TEXT]], []):
        conversation.clear()
        conversation.add("hi", "ho", [*tokenizer.encode("ho"), *ending])
        messages = [*conversation.messages, {"role": "user", "content": "and"}]
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
        assert conversation.prompt("and", 8) == encode_prompt(tokenizer, messages)


def test_generated_ids_stay_as_they_were(tokenizer: Tokenizer) -> None:
    """Guards: an answer encoded anew from its text, which takes other ids and with them the prefix away."""
    letters = [tokenizer.encode(letter)[0] for letter in "summer"]
    assert tokenizer.encode("summer") != letters
    conversation = Conversation(tokenizer, CONTEXT)
    first = conversation.prompt("hi", 8)
    conversation.add("hi", "summer", letters)
    assert conversation.prompt("and", 8)[: len(first) + len(letters)] == first + letters


def test_the_oldest_exchanges_go_until_half_is_free(tokenizer: Tokenizer) -> None:
    """By hand: a question of one token is 4 ids, with its answer of 9, closed, 14.

    Behind a prompt of 74 there is room for 25 more in 100, behind one of 88 there is not: then as many
    exchanges stay as fit 50 - 4, which is three.
    """
    conversation = Conversation(tokenizer, CONTEXT)
    answer = tokenizer.encode("a") * 9
    lengths = []
    for _ in range(7):
        lengths.append(len(conversation.prompt("b", 1000)))
        conversation.add("b", "a" * 9, answer)
    assert lengths == [4, 18, 32, 46, 60, 74, 46]
    assert conversation.n_dropped == 3


def test_the_system_prompt_is_never_forgotten(tokenizer: Tokenizer) -> None:
    """Guards: a chat that forgets its rules when it grows."""
    conversation = Conversation(tokenizer, CONTEXT, "Be kind.")
    front = conversation.prompt("b", 8)[:5]
    for _ in range(8):
        assert conversation.prompt("b", 8)[:5] == front
        conversation.add("b", "a" * 9, tokenizer.encode("a") * 9)
    assert conversation.n_dropped


def test_a_question_that_does_not_fit_is_refused_and_forgets_nothing(tokenizer: Tokenizer) -> None:
    """Guards: a history emptied for a question that is refused anyway."""
    conversation = Conversation(tokenizer, CONTEXT)
    conversation.add("b", "a", tokenizer.encode("a"))
    with pytest.raises(ValueError, match="but the context is 100; shorten it"):
        conversation.prompt("b" * 300, 8)
    assert len(conversation.exchanges) == 1
