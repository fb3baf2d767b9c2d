"""Speculative decoding of one sequence: a proposer guesses some tokens, the model checks them in one pass.

A guess x drawn from q is taken with probability min(1, p(x) / q(x)); the first that is not is replaced by a
draw from max(p - q, 0), and behind the last taken one stands a token of the model's own. So each token has
the model's distribution p, after all of the sampling dials, whatever was guessed; with temperature 0 the text
is the greedy one. Which random numbers meet which token differs from `generate`: a seed names another text.

Source: Leviathan et al. 2023, algorithm 1.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, check_prompt, step_of
from gpt.generate.proposers import Proposer
from gpt.generate.sampling import Sampler, check_finite, draw, probabilities
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer


@dataclass(kw_only=True, slots=True)
class Tally:
    """What it cost."""

    n_passes: int = 0
    """Passes of the model, the prompt's among them."""
    n_proposed: int = 0
    n_accepted: int = 0


def generate_speculatively(
    model: Transformer,
    prompt_ids: Sequence[int],
    sampling: SamplingConfig,
    proposer: Proposer,
    *,
    n_proposed: int = 4,
    stop_ids: Collection[int] = (),
    device: torch.device | str = "cpu",
    n_alternatives: int = 0,
    tally: Tally | None = None,
) -> Iterator[Step]:
    """Check the request, then generate as `generate` does, with at most n_proposed guesses a pass.

    Raises ValueError as `generate` does.
    """
    check_prompt(model.config, prompt_ids)
    assert not model.training, "call model.eval() first: dropout would change the text"
    if n_proposed < 1:
        raise ValueError(f"draft_tokens: at least 1 is needed, got {n_proposed}")
    decoder = _Decoder(model, prompt_ids, sampling, n_proposed, device, tally or Tally())
    return decoder.steps(proposer, frozenset(stop_ids), n_alternatives)


class _Decoder:
    def __init__(
        self,
        model: Transformer,
        prompt_ids: Sequence[int],
        sampling: SamplingConfig,
        n_proposed: int,
        device: torch.device | str,
        tally: Tally,
    ) -> None:
        self.model, self.sampling, self.n_proposed, self.tally = model, sampling, n_proposed, tally
        self.device = device
        dtype = model.embed.weight.dtype
        self.cache = KVCache(model.config, 1, device=device, dtype=dtype, rewind=n_proposed)
        self.sampler = Sampler(sampling)
        self.known, self.seen = list(prompt_ids), set(prompt_ids)

    def steps(self, proposer: Proposer, stop_ids: frozenset[int], n_alternatives: int) -> Iterator[Step]:
        """Yield the tokens, those of a pass together."""
        n_prompt, limit = len(self.known), self.model.config.max_seq_len
        while True:
            count = len(self.known) - n_prompt
            n = min(self.n_proposed, self.sampling.max_tokens - count - 1, limit - len(self.known))
            proposal = proposer.propose(self.known, n, self.sampler)
            guesses = proposal.token_ids
            logits = self._logits(guesses)  # (guesses + 1, V)
            taken = 0
            for i, row in enumerate(logits):
                p = probabilities(row, self.seen, self.sampling)  # (V,)
                guess = guesses[i] if i < len(guesses) else None
                token_id, is_taken = self._choose(p, guess, proposal.probabilities, i)
                count += 1
                step = step_of(
                    row.log_softmax(0),
                    token_id,
                    n_alternatives=n_alternatives,
                    is_stop=token_id in stop_ids,
                    is_full=count == self.sampling.max_tokens or len(self.known) == limit,
                )
                self.known.append(token_id)
                self.seen.add(token_id)
                taken += is_taken
                self.tally.n_accepted += is_taken
                yield step
                if step.finish_reason is not None:
                    return
                if not is_taken:
                    break
            self.cache.rewind(len(guesses) - taken)

    def _logits(self, guesses: tuple[int, ...]) -> Tensor:
        """Feed what is known and the guesses; return the logits (guesses + 1, V), fp32, on the CPU."""
        fresh = [*self.known[self.cache.length :], *guesses]
        with torch.inference_mode():
            x = self.model.hidden_states(torch.tensor([fresh], device=self.device), self.cache)  # (1, T, C)
            logits = self.model.logits(x[0, -len(guesses) - 1 :]).float().cpu()
        check_finite(logits)
        self.tally.n_passes += 1
        self.tally.n_proposed += len(guesses)
        return logits

    def _choose(
        self, p: Tensor, guess: int | None, proposed: tuple[Tensor, ...] | None, i: int
    ) -> tuple[int, bool]:
        """Return the token of a place, and whether it is the guess."""
        if guess is not None:
            q = torch.zeros_like(p) if proposed is None else proposed[i]
            if proposed is None:
                q[guess] = 1.0
            if self.sampler.uniform() * float(q[guess]) < float(p[guess]):
                return guess, True
            rest = (p - q).clamp(min=0)
            p = rest if float(rest.sum()) > 0 else p  # of equal p and q rounding alone refuses
        uniform = torch.tensor([self.sampler.uniform()], dtype=torch.float64)
        return int(draw(p[None], uniform)), False
