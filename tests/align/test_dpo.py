"""DPO from a log record to a trained policy: which pairs count, ln 2 at the start, exact resumes."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.align.dpo import dpo_loss, dpo_objective, pair_validation, reference_logprobs
from gpt.align.log_probs import answer_logprobs
from gpt.align.policy import Policy
from gpt.align.prompts import encode_pairs
from gpt.align.reward_model import RewardModel, model_reward, reward_objective
from gpt.align.toy_reward import Answer
from gpt.corpus.preferences import Pair
from gpt.dataset.preference_pairs import PreferencePairs
from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.loop import TrainResult, train
from tests.align.tiny_policy import DPO, TRAIN, body, dials, prompts
from tests.tolerances import TOLERANCE
from tests.train.test_loop import CPU, Killed, Sink


def pair(chosen: str, rejected: str, i: int = 0, prompt: str = "UPI fail?") -> Pair:
    message = {"role": "user", "content": prompt}
    return Pair(id=str(i), source="test", synthetic=True, prompt=(message,), chosen=chosen, rejected=rejected)


ANSWERS = [
    ("kal aa jayega", "it is late"),
    ("ho gaya", "done, my lord"),
    ("refund 3 din", "wait"),
    ("haan", "yes"),
]
PAIRS = [pair(c, r, i) for i, (c, r) in enumerate(ANSWERS)]


def encoded(tokenizer: Tokenizer, pairs: list[Pair] = PAIRS, seq_len: int = 32) -> PreferencePairs:
    chosen, rejected, _ = encode_pairs(tokenizer, pairs, seq_len=seq_len, most=0, name="t")
    return PreferencePairs(chosen, rejected, padding=tokenizer.end_of_text, seed=1)


def test_pairs_that_teach_nothing_are_left_out_and_counted(tokenizer: Tokenizer) -> None:
    """Guards: a loss of ln 2 for ever from equal sides, an empty answer that is preferred, a side cut in the
    middle whose probability is another; the prompt or the padding learned."""
    pairs = [
        *PAIRS,
        pair("same", " same "),
        pair("", "no"),
        pair("yes", " \n"),
        pair("yes " * 30, "no"),
    ]
    chosen, rejected, counts = encode_pairs(tokenizer, pairs, seq_len=32, most=0, name="t")
    expected = {"pairs": 4, "real_pairs": 0, "equal_sides": 1, "empty_side": 2, "too_long": 1}
    assert counts == expected
    for sides, column in ((chosen, 0), (rejected, 1)):
        for (ids, learned), answer in zip(sides, ANSWERS, strict=True):
            said = [i for i, is_learned in zip(ids, learned, strict=True) if is_learned]
            assert tokenizer.decode(said) == answer[column] + "<|end|>"
            assert learned[-1], "what follows the end of the turn is no part of the answer"
    most, _, counts = encode_pairs(tokenizer, pairs, seq_len=32, most=3, name="t")
    assert len(most) == counts["pairs"] == 3
    with pytest.raises(ValueError, match=r"align-dpo: no usable preference pair \(0 pairs, .*1 equal sides"):
        encode_pairs(tokenizer, [pair("a", "a")], seq_len=32, most=0, name="align-dpo")


def test_a_batch_holds_whole_pairs(tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: sides of two pairs compared, a log-probability that depends on the padding beside it."""
    pairs, model = encoded(tokenizer), body(modern)
    pairs.reference = reference_logprobs(model, pairs, is_mean=False, train=TRAIN, device=CPU)
    seen = set()
    for cursor in range(0, 8, 2):
        token_ids, targets, reference = pairs.batch(cursor, 2)
        texts = [tokenizer.decode([i for i in row.tolist() if i >= 0]) for row in targets]
        answers = tuple(text.removesuffix("<|end|>") for text in texts)
        assert answers in ANSWERS
        seen.add(answers)
        alone = [i for i in range(8) if pairs.sides[i][0] == pairs.sides[2 * ANSWERS.index(answers)][0]]
        ids, wanted = pairs.rows(alone[:1])
        single = answer_logprobs(model(ids), wanted)
        assert float(single) == pytest.approx(float(reference[0]), abs=TOLERANCE["align_padded_vs_alone"])
        wide = torch.nn.functional.pad(token_ids, (0, 7), value=5)
        masked = torch.nn.functional.pad(targets, (0, 7), value=-100)
        found = answer_logprobs(model(wide), masked)
        assert torch.allclose(found, reference, atol=TOLERANCE["align_padded_vs_alone"])
    assert seen == set(ANSWERS), "an epoch has every pair once"


def run(
    model: Policy, pairs: PreferencePairs, objective: Any, folder: Path | None = None, dies_at: int = -1
) -> TrainResult:
    calls = iter(range(1000))

    def counted(model: Any, batch: Any) -> Any:
        if next(calls) == dies_at:
            raise Killed
        return objective(model, batch)

    validate, _ = pair_validation(pairs, objective, TRAIN, CPU)
    train_config = dataclasses.replace(TRAIN, steps=20)
    return train(
        model,
        pairs,
        counted,
        train_config,
        name="t",
        validate=validate,
        sink=Sink(),
        device=CPU,
        resume_dir=folder,
    )


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("is_mean", [False, True])
def test_dpo_learns_from_ln_2(
    modern: ModelConfig, tokenizer: Tokenizer, tmp_path: Path, rank: int, is_mean: bool
) -> None:
    """Guards: a reference that is not the policy's start, dropout in one of the two, sides swapped, a resume
    whose reference is the half-trained policy. The model has a dropout that must not act."""
    dpo = dataclasses.replace(DPO, length_normalized=is_mean, beta=0.5)

    def start() -> tuple[Policy, PreferencePairs]:
        align = dials("dpo", lora_rank=rank, dpo=dpo)
        policy = Policy(body(dataclasses.replace(modern, dropout=0.5)), align).eval()
        pairs = encoded(tokenizer)
        pairs.reference = reference_logprobs(policy, pairs, is_mean=is_mean, train=TRAIN, device=CPU)
        return policy, pairs

    whole, pairs = start()
    result = run(whole, pairs, dpo_objective(dpo))
    assert result.history[0]["loss"] == pytest.approx(math.log(2), abs=TOLERANCE["align_padded_vs_alone"])
    assert result.history[-1]["val_loss"] < 0.5
    assert result.history[-1]["accuracy"] == 1
    assert result.history[-1]["chosen_reward"] > result.history[-1]["rejected_reward"]
    policy, pairs = start()
    with pytest.raises(Killed):
        run(policy, pairs, dpo_objective(dpo), tmp_path, dies_at=30)
    policy, pairs = start()
    assert run(policy, pairs, dpo_objective(dpo), tmp_path).history == result.history
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), whole.parameters(), strict=True))


def test_the_reward_model_learns_the_pairs(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: a score read beside the answer's end, sides swapped; a first score that is not 0."""
    judge, pairs = RewardModel(body(modern), dials("dpo", lora_rank=0)), encoded(tokenizer)
    result = run(judge, pairs, reward_objective)
    assert result.history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.history[-1]["accuracy"] == 1
    ends = [len(pairs.sides[i][0]) - 1 for i in range(8)]
    scores = [float(judge.scores(pairs.rows([i])[0], torch.tensor([ends[i]]))) for i in range(8)]
    assert all(chosen > rejected for chosen, rejected in zip(scores[0::2], scores[1::2], strict=True))
    together = reward_objective(judge, pairs.batch(0, 8))[1]
    margins = [a - b for a, b in zip(scores[0::2], scores[1::2], strict=True)]
    assert float(together["margin"]) == pytest.approx(sum(margins) / 4, abs=1e-4)
    answers = [
        Answer(prompt=p, ids=(7, 8, 9)[: 1 + i % 3], text="", has_ended=False)
        for i, p in enumerate(prompts(tokenizer, 5))
    ]
    reward = model_reward(judge)
    assert torch.allclose(reward(answers), torch.cat([reward([a]) for a in answers]), atol=1e-5)


@pytest.mark.peers
def test_dpo_loss_equals_trl_s() -> None:
    """Guards: a formula that is nearly DPO's: sums and means, pairs and halves, beta. trl's own method gets
    a model that returns the same log-probabilities; its sides stand in halves, ours in turn."""
    from tests.align.trl_loss import trl_dpo_loss

    generator = torch.Generator().manual_seed(3)
    logprobs, reference = (-3 * torch.rand(6, 9, generator=generator) for _ in range(2))
    learned = torch.arange(10) >= 4
    learned = learned & (torch.arange(10) < torch.tensor([[6], [10], [8], [7], [9], [10]]))
    logprobs, reference = logprobs * learned[:, 1:], reference * learned[:, 1:]
    ratios = (logprobs - reference).sum(dim=1)  # (6,) chosen, rejected, chosen, ...
    halves = torch.tensor([0, 2, 4, 1, 3, 5])
    for kind, values in (("sigmoid", ratios), ("sigmoid_norm", ratios / learned.sum(dim=1))):
        theirs = trl_dpo_loss(logprobs[halves], reference[halves], learned[halves], beta=0.3, kind=kind)
        ours = dpo_loss(values, dataclasses.replace(DPO, beta=0.3))
        assert float(ours) == pytest.approx(theirs, abs=TOLERANCE["dpo_vs_trl"])
        assert abs(theirs - math.log(2)) > 0.001
