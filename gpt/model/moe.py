"""Mixture of experts, dropless: every token visits its K best experts, whatever their load.

Routing weights are the softmax over the K chosen logits (Mixtral; equal to softmax over all, then
renormalized). Load-balancing loss: Fedus et al. 2021 eq. 4, with f counting the K assignments, so a
balanced router scores K. Router z-loss: Zoph et al. 2022 eq. 5.

Experts may lie on other ranks: whoever put them there hands the layer a `dispatch`
(gpt/parallel/expert_spread.py). Not here: ranks.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from gpt.kernels.fused_kernels import fused_kernel
from gpt.kernels.grouped_linear import grouped_linear
from gpt.model.config import ModelConfig
from gpt.model.feed_forward import activate

Experts = Callable[[Tensor, Tensor], Tensor]
"""Rows (R, C) that lie expert by expert and how many each expert has (E,), to the experts' outputs (R, C)."""


class Exchange(Protocol):
    """One pass's assignments among all ranks."""

    counts: Tensor
    """Assignments that each expert got from all ranks together, (E,)."""

    def run(self, experts: Experts, x: Tensor) -> Tensor:
        """Return what x (N*K, C), this rank's rows expert by expert, becomes in their experts, (N*K, C)."""


class MixtureOfExperts(nn.Module):
    """E feed-forwards and the router that picks K of them for each token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.bias:
            raise ValueError("bias: a mixture of experts has none here; set bias: false")
        self.config = config
        e, c, f = config.n_experts, config.dim, config.ffn_dim
        self.router = nn.Linear(c, e, bias=False)
        if config.activation == "swiglu":
            self.experts_gate = nn.Parameter(torch.empty(e, f, c))  # (E, F, C)
        self.experts_up = nn.Parameter(torch.empty(e, f, c))  # (E, F, C)
        self.experts_down = nn.Parameter(torch.empty(e, c, f))  # (E, C, F)
        self.fused = fused_kernel("swiglu") if "swiglu" in config.fused_kernels else None
        self.balance_loss = torch.zeros(())
        self.z_loss = torch.zeros(())
        self.expert_load: Tensor | None = None
        """Share of the assignments that each expert got in the last pass, of all ranks together, (E,)."""
        self.dispatch: Callable[[Tensor], Exchange] | None = None
        """From this rank's counts (E,) to the pass's exchange; without one every expert is here."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C); leaves balance_loss, z_loss and expert_load behind."""
        n_experts, n_chosen = self.config.n_experts, self.config.n_experts_per_token
        tokens = x.flatten(0, -2)  # (N, C)
        with torch.autocast(x.device.type, enabled=False):  # routing in fp32: near ties must not flip
            logits = self.router(tokens.float())  # (N, E)
        top_logits, top_experts = logits.topk(n_chosen, dim=-1)  # (N, K)
        weights = top_logits.softmax(dim=-1)  # (N, K)
        counts = torch.bincount(top_experts.flatten(), minlength=n_experts)  # (E,)
        exchange = None if self.dispatch is None else self.dispatch(counts)
        self._measure(logits, counts if exchange is None else exchange.counts)

        order = top_experts.flatten().argsort(stable=True)  # (N*K,) assignments, expert by expert
        token_of = order // n_chosen  # (N*K,)
        rows = tokens[token_of]  # (N*K, C)
        sorted_out = self._experts(rows, counts) if exchange is None else exchange.run(self._experts, rows)
        scaled = sorted_out.float() * weights.flatten()[order, None]  # (N*K, C)
        out = torch.zeros_like(tokens, dtype=torch.float32)  # (N, C)
        return out.index_add(0, token_of, scaled).to(x.dtype).view_as(x)

    def _experts(self, x: Tensor, counts: Tensor) -> Tensor:
        """Run each expert that is here on its own rows of x (R, C), which lie expert by expert."""
        swiglu = self.config.activation == "swiglu"
        gate = grouped_linear(x, self.experts_gate, counts) if swiglu else None  # (R, F)
        up = grouped_linear(x, self.experts_up, counts)  # (R, F)
        hidden = activate(up, gate, self.config.activation, self.fused)  # (R, F)
        return grouped_linear(hidden, self.experts_down, counts)

    def _measure(self, logits: Tensor, counts: Tensor) -> None:
        """Set the losses of this rank's tokens against the load of all ranks, which no gradient enters.

        Their mean over ranks with equally many tokens is, in value and gradient, the loss of all tokens.
        """
        n_experts, n_chosen = self.config.n_experts, self.config.n_experts_per_token
        probability = logits.softmax(dim=-1).mean(dim=0)  # (E,)
        load = n_chosen * counts.float() / counts.sum()  # (E,) assignments per token; sums to K
        self.balance_loss = n_experts * (load * probability).sum()
        self.z_loss = logits.logsumexp(dim=-1).square().mean()
        self.expert_load = load.detach() / n_chosen


def router_losses(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the mean load-balancing loss and z-loss over a model's mixtures, after a forward pass."""
    mixtures = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    assert mixtures, "router_losses on a model without experts"
    balance = torch.stack([m.balance_loss for m in mixtures]).mean()
    return balance, torch.stack([m.z_loss for m in mixtures]).mean()
