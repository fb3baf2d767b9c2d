"""Whether a model was tuned on the chat template, asked of the model itself.

A vocabulary has the chat's special tokens long before any model has seen one, and neither a name nor a
lineage says what the weights learned. So the weights are asked: after a whole answer, how likely is the
token that ends a turn? A model that never met the template has learned that this token never comes.
Measured (max over the answer, times the vocabulary's size): bases 0.003, tuned, aligned and 4-bit ones
2.9 and more, SmolLM2-135M-Instruct 27,000.
"""

import torch

from gpt.catalog.open_model import OpenModel
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer

QUESTION, ANSWER = "Hello!", "Hello! How can I help you?"
LEAST = 0.1
"""Of the probability that a uniform guess would give."""


def can_chat(opened: OpenModel) -> bool:
    """Return whether the model knows how a turn of its own ends."""
    tokenizer = opened.tokenizer
    try:
        prompt_ids = encode_prompt(tokenizer, [{"role": "user", "content": QUESTION}])
    except ValueError:
        return False  # no chat tokens at all
    ids = prompt_ids + tokenizer.encode(ANSWER)
    if len(ids) > opened.model.config.max_seq_len:
        return False  # nor would a chat fit
    with torch.inference_mode():
        x = opened.model.hidden_states(torch.tensor([ids], device=opened.device))  # (1, T, C)
        probabilities = opened.model.logits(x[0, len(prompt_ids) - 1 :]).float().softmax(-1)  # (T', V)
    likeliest = float(probabilities[:, turn_end(tokenizer)[0]].max())
    return likeliest * opened.model.config.vocab_size >= LEAST


def turn_end(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that close a turn. Raises ValueError for a tokenizer without a chat form."""
    opening = encode_prompt(tokenizer, [], "user")
    turn = encode_prompt(tokenizer, [{"role": "user", "content": ""}], "user")  # opening, end, opening
    return turn[len(opening) : len(turn) - len(opening)]
