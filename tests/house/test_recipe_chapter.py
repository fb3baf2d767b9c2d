"""docs/chapters/recipe.md prints what the benchmarks measured; their arithmetic by hand."""

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import recipe_ablation, time_to_loss
from benchmarks.result_file import RESULTS
from benchmarks.tiny_shakespeare import full_validation, recipe
from gpt.model.flops import count_parameters

CHAPTER = (Path(__file__).parents[2] / "docs/chapters/recipe.md").read_text(encoding="utf-8")


def result(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    for module, name in ((time_to_loss, "time_to_loss"), (recipe_ablation, "recipe_ablation")):
        assert module.table(result(name)) in CHAPTER, f"print it again: python -m benchmarks.{name} --table"
    assert CHAPTER.count("\n|---") == 2, "a table that no benchmark printed"


def test_the_chapters_words_are_the_results() -> None:
    """Guards: prose about another run: its length, the model's size."""
    ablation, times = result("recipe_ablation"), result("time_to_loss")
    parameters = count_parameters(recipe(seed=1, steps=1).model).total
    assert {run["parameters"] for run in times["runs"]} == {parameters}
    assert f"{parameters:,} parameters" in CHAPTER
    flat = re.sub(r"\s+", " ", CHAPTER)
    assert f"{ablation['steps']} steps ({ablation['characters']:,} characters)" in flat
    assert f"{times['runs'][0]['characters']:,} characters" in flat


def test_the_validation_sees_every_window_that_fits_once() -> None:
    """By hand: 11 tokens, T 3: inputs 0-2, 3-5, 6-8, and the last token has no window. A model that knows
    nothing of 11 symbols scores ln 11. Guards dropout left on, and training mode not put back."""
    seen = []

    class Uniform(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
            assert not self.training
            seen.extend(token_ids.tolist())
            return torch.zeros(*token_ids.shape, 11)

    model = Uniform().train()
    assert math.isclose(full_validation(np.arange(11), 3)(model), math.log(11), rel_tol=1e-6)
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert model.training


def test_ablation_differences_are_paired_by_seed() -> None:
    """By hand: base 1.0 and 2.0, change 1.1 and 2.3: mean difference 0.2, its s.e. 0.1; the base's own
    spread of 0.5 would drown it."""
    runs = [
        {"change": change, "seed": seed, "val_loss": loss}
        for change, losses in (("the recipe", (1.0, 2.0)), ("no QK-norm", (1.1, 2.3)))
        for seed, loss in enumerate(losses)
    ]
    base, changed = recipe_ablation.summarize(runs)
    assert (base["val_loss"], base["standard_error"]) == (1.5, 0.5)
    assert (changed["difference"], changed["standard_error"]) == (0.2, 0.1)


def test_the_first_time_a_target_is_met() -> None:
    """By hand: 1.5 is met at 20 s and lost again at 30; 1.3 is never met."""
    curve = [{"seconds": s, "val_loss": loss} for s, loss in ((10, 1.6), (20, 1.5), (30, 1.51))]
    assert time_to_loss.first_time(curve, 1.5) == 20
    assert time_to_loss.first_time(curve, 1.3) is None
