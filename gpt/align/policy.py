"""What alignment trains: a body, all of it or its adapters, and its reference: the model as it started.

With adapters the reference is the body with them switched off; with all parameters it is a copy, kept
only where rollouts ask for it. Dropout is off throughout: a policy must give the same probabilities to the
tokens that it sampled and to those that it is trained on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from torch import Tensor, nn

from gpt.adapters.lora import adapter_names, inject_lora, merge_lora
from gpt.adapters.switch import base_alone
from gpt.align.config import AlignConfig
from gpt.model.transformer import Transformer


def adapt(body: Transformer, config: AlignConfig, seed: int) -> Transformer:
    """Make the body trainable as the dials say, in place: every parameter, or adapters alone."""
    device = body.embed.weight.device
    body.requires_grad_(config.lora_rank == 0)
    if config.lora_rank:
        inject_lora(body, config.lora, seed)
    return body.to(device)


class Policy(nn.Module):
    """A body that is trained; forward gives its logits."""

    def __init__(self, body: Transformer, config: AlignConfig, *, keeps_reference: bool = False) -> None:
        super().__init__()
        is_copied = keeps_reference and config.lora_rank == 0
        copy = deepcopy(body).requires_grad_(False).eval() if is_copied else None
        self._reference = [copy]  # in a list: no part of the module, so of no resume state
        self.body = adapt(body, config, config.train.seed)

    def train(self, mode: bool = True) -> "Policy":
        """Set the mode of everything but the body, which stays in evaluation mode: no dropout."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        return self.body(token_ids)

    @contextmanager
    def reference(self) -> Iterator[Transformer]:
        """Give the reference model for a while; with adapters, the body is it meanwhile."""
        if (copy := self._reference[0]) is not None:
            yield copy
            return
        assert adapter_names(self.body), "neither a copy nor adapters: made without a reference"
        with base_alone(self.body):
            yield self.body

    def merged(self) -> Transformer:
        """Fold the adapters into the body, if there are any, and return it."""
        merge_lora(self.body)
        return self.body
