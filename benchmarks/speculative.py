"""What do guesses save? Tokens for each pass of the model, and the time beside plain decoding, one sequence.

    python -m benchmarks.speculative            some 3 minutes on a quiet machine with 2 cores
    python -m benchmarks.speculative --table    print the chapter's table from the result

Pairs: smollm2-135m (by download) with the text itself as proposer, and the pipeline's scale-dense with its
pretrain stage as a draft model and with the text itself (after `dvc repro scale`). Prompts: a text to be
copied, code to be continued, prose. Greedy, TOKENS tokens each, GUESSES guesses a pass, fp32, the CPU. Each
round generates every prompt in every way, in turns; ratios of a round's total times, their median over the
rounds, and the standard error of their mean. The texts must be the plain ones; how many tokens are equal
is stated, since a pass over five tokens rounds differently than five passes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.result_file import RESULTS, write_result
from gpt.catalog.open_model import OpenModel, open_model
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, generate
from gpt.generate.proposers import DraftModel, Proposer, RepeatedText
from gpt.generate.speculative import Tally, generate_speculatively

NAME = "speculative"
TOKENS, GUESSES, SEED = 64, 4, 0
PROMPTS = {
    "copy": "The river rose in the night, and by the morning it had taken the lower bridge.\n"
    "Again: The river rose in the night, and by the morning it had taken the lower bridge.\nAgain: The",
    "code": "def area(width, height):\n    return width * height\n\n\n"
    "def volume(width, height, depth):\n    return",
    "prose": "It was late in the year when the old teacher came back to the village. He",
}
GREEDY = SamplingConfig(max_tokens=TOKENS, seed=SEED, temperature=0.0)
Way = Callable[[list[int], Tally], Iterator[Step]]


def ways_of(target: OpenModel, draft: OpenModel | None) -> dict[str, Way]:
    """Return how a pair generates: plain, and with each proposer."""
    proposers: dict[str, Callable[[], Proposer]] = {"the text itself": RepeatedText}
    if draft is not None:
        assert draft.tokenizer.fingerprint == target.tokenizer.fingerprint
        proposers["a draft model"] = lambda: DraftModel(draft.model, most=GUESSES)

    def guessed(make: Callable[[], Proposer]) -> Way:
        return lambda ids, tally: generate_speculatively(
            target.model, ids, GREEDY, make(), n_proposed=GUESSES, tally=tally
        )

    ways: dict[str, Way] = {"plain": lambda ids, tally: generate(target.model, ids, GREEDY)}
    return ways | {name: guessed(make) for name, make in proposers.items()}


def measure_pair(target: OpenModel, draft: OpenModel | None, rounds: int) -> dict[str, Any]:
    """Run every way in turns, one round unmeasured."""
    ways = ways_of(target, draft)
    prompts = {name: target.tokenizer.encode(text) for name, text in PROMPTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tallies: dict[str, dict[str, Tally]] = {}
    texts: dict[str, dict[str, list[int]]] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            tallies[name] = {prompt: Tally() for prompt in prompts}
            started = time.perf_counter()
            texts[name] = {
                prompt: [step.token_id for step in way(ids, tallies[name][prompt])]
                for prompt, ids in prompts.items()
            }
            if turn:
                seconds[name].append(time.perf_counter() - started)
    rows = {}
    for name in [name for name in ways if name != "plain"]:
        ratios = [a / b for a, b in zip(seconds["plain"], seconds[name], strict=True)]
        pairs = [
            (a, b)
            for prompt in prompts
            for a, b in zip(texts["plain"][prompt], texts[name][prompt], strict=True)
        ]
        rows[name] = {
            "tokens_per_pass": {p: round(TOKENS / t.n_passes, 2) for p, t in tallies[name].items()},
            "accepted": {p: [t.n_accepted, t.n_proposed] for p, t in tallies[name].items()},
            "times_plain_speed": round(statistics.median(ratios), 2),
            "standard_error": round(statistics.stdev(ratios) / len(ratios) ** 0.5, 3),
            "tokens": len(pairs),
            "tokens_equal_to_plain": sum(a == b for a, b in pairs),
        }
    plain = len(prompts) * TOKENS / statistics.median(seconds["plain"])
    return {
        "target": target.name,
        "target_sha256": target.sha256,
        "draft": None if draft is None else draft.name,
        "plain_tokens_per_s": round(plain, 1),
        "seconds": {name: [round(s, 3) for s in all_] for name, all_ in seconds.items()},
        "ways": rows,
    }


def render(result: dict[str, Any]) -> str:
    """Return the chapter's table as Markdown."""
    prompts = list(PROMPTS)
    lines = [
        f"| model | guesses | {' | '.join(f'tokens a pass, {p}' for p in prompts)} | speed over plain |",
        "|---" * (len(prompts) + 3) + "|",
    ]
    for pair in result["pairs"]:
        for name, row in pair["ways"].items():
            guesser = f"{name} ({pair['draft']})" if name == "a draft model" else name
            cells = " | ".join(f"{row['tokens_per_pass'][p]:.2f}" for p in prompts)
            speed = f"{row['times_plain_speed']:.2f} ± {row['standard_error']:.2f}"
            lines.append(f"| {pair['target']} | {guesser} | {cells} | {speed} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the result, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=["smollm2-135m", "scale-dense:pretrain"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print the chapter's table and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(render(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(options.threads)
    pairs = []
    for pair in options.pairs:
        target, _, draft = pair.partition(":")
        pairs.append(measure_pair(open_model(target), open_model(draft) if draft else None, options.rounds))
    result = {"rounds": options.rounds, "threads": options.threads, "guesses": GUESSES, "pairs": pairs}
    write_result(NAME, {"generated_tokens": TOKENS, "seed": SEED, **result})


if __name__ == "__main__":
    main()
