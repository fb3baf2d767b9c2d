"""gpt/report/config.py."""

import dataclasses
from typing import Any

import pytest

from tests.report.tiny_run import CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_prompts": ()}, "text_prompts: at least one"),
        ({"text_prompts": ("a", "")}, "text_prompts: an empty prompt"),
        ({"chat_prompts": ("",)}, "chat_prompts: an empty prompt"),
        ({"heatmap_text": ""}, "heatmap_text: it is empty"),
        ({"sample_tokens": 0}, "sample_tokens: at least 1"),
        ({"heatmap_heads": 0}, "heatmap_heads: at least 1"),
        ({"temperature": -0.1}, "temperature: 0 or more"),
        ({"dollars_per_hour": -1.0}, "dollars_per_hour: 0 or more"),
    ],
)
def test_refuses_what_cannot_be_drawn(change: dict[str, Any], message: str) -> None:
    """Guards: a report that fails after the whole pipeline ran, for a dial that was wrong from the start."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
