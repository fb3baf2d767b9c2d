"""Data parallel: every rank holds the model, but for experts that have been spread, and averages gradients.

    gradients   |embed.....|q_proj..|k_proj..|..    buckets of them, laid end to end
                 reduce-scatter, the sum by W, all-gather: the mean, the same bits on each rank

An expert that one rank alone has needs no average: the tokens of all ranks came to it, and its gradient is
already that of the mean loss (expert_exchange.py). Averaging waits until the last micro batch of a step.
Not here: sharding (zero3.py), overlap of the average with the way back. The same methods as Zero3 otherwise.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gpt.parallel.expert_spread import LocalExperts
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.units import check_equal_weights

BUCKET = 1 << 22
"""Elements of gradients that are sent at once, beside which one such bucket is received."""


class Replicas:
    """A model that is whole on every rank, spread experts excepted. Call `.module` as the model."""

    def __init__(self, module: nn.Module, group: ProcessGroup) -> None:
        """Move the model to the rank's device. Raises ValueError when the ranks hold different weights."""
        self.module, self.group = module.to(group.device), group
        self.experts = LocalExperts(module, group)
        self.shared = {n: p for n, p in module.named_parameters() if n not in self.experts.parameters}
        """What every rank has, by name."""
        check_equal_weights(self.shared, group)

    def parameters(self) -> list[nn.Parameter]:
        """Return this rank's parameters, for any optimizer."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (name, parameter) under the model's own names; spread experts are (E/W, out, in)."""
        yield from self.module.named_parameters()

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Turn the gradients of what every rank has into their mean, after a step's last backward pass.

        Raises ValueError when a parameter got a gradient on some ranks and none on others.
        """
        flags = torch.tensor([float(p.grad is not None) for p in self.shared.values()])
        rows = self.group.gather_rows(flags.to(self.group.device))  # (W, parameters)
        differs = (rows != rows[0]).any(dim=0).nonzero()
        if len(differs):
            raise ValueError(
                f"{list(self.shared)[int(differs[0])]}: got a gradient on some ranks and none on others; "
                "every rank must run the same parameters"
            )
        bucket: list[Tensor] = []
        for parameter in self.shared.values():
            if parameter.grad is not None:
                if bucket and sum(g.numel() for g in bucket) + parameter.numel() > BUCKET:
                    self._average(bucket)
                    bucket = []
                bucket.append(parameter.grad)
        if bucket:
            self._average(bucket)

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float) -> Tensor:
        """Scale the averaged gradients so that their global norm is at most max_norm; return it, fp32 ().

        Of what every rank has the squares count once, of the experts those of all ranks.
        """
        own = [p.grad for p in self.experts.parameters.values() if p.grad is not None]
        shared = [p.grad for p in self.shared.values() if p.grad is not None]
        of_ranks = self.group.gather_rows(_squares(own, self.group.device))  # (W, 1)
        norm = (_squares(shared, self.group.device) + of_ranks.sum(0)).sqrt()[0].float()
        nn.utils.clip_grads_with_norm_(self.parameters(), max_norm, norm)
        return norm

    def full_tensors(self, parts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the whole parameters on rank 0, on the CPU, under the model's own names; {} elsewhere.

        With `parts` (by name, as named_parameters has them), what lies like them: an optimizer's moments.
        All ranks must call it. Persistent buffers come along with the parameters.
        """
        full = self.experts.join(parts)
        if self.group.rank:
            return {}
        if parts is None:
            tied = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
            buffers = {n: t for n, t in self.module.state_dict().items() if n not in tied}
            parts = {n: p.detach() for n, p in self.shared.items()} | buffers
        whole = {n: t.to("cpu", copy=True) for n, t in parts.items() if n not in self.experts.parameters}
        return whole | full

    def cut(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part of whole tensors; the other way round of full_tensors.

        Every rank passes the same tensors; nothing is sent. Raises ValueError for a name or shape amiss.
        """
        names = {name for name, _ in self.named_parameters()}
        if amiss := sorted(names ^ set(tensors)):
            raise ValueError(f"tensor {amiss[0]!r} is in the model or in what is loaded, but not in both")
        for name, parameter in self.shared.items():
            if tensors[name].shape != parameter.shape:
                shapes = f"{tuple(tensors[name].shape)}, {tuple(parameter.shape)} is needed"
                raise ValueError(f"{name}: shape {shapes}")
        return {name: tensors[name] for name in self.shared} | self.experts.cut(tensors)

    @torch.no_grad()
    def load_full(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the parameters (and persistent buffers) of full_tensors, given whole on every rank."""
        own = dict(self.named_parameters())
        buffers = {n: b for n, b in self.module.named_buffers() if n in tensors and n not in own}
        cut = self.cut({name: tensor for name, tensor in tensors.items() if name not in buffers})
        for name, target in (own | buffers).items():
            target.copy_(cut[name] if name in own else tensors[name])

    def _average(self, gradients: list[Tensor]) -> None:
        """Replace gradients by their mean over the ranks, which is taken in fp32."""
        world_size, n = self.group.world_size, sum(gradient.numel() for gradient in gradients)
        size = -(-n // world_size) * world_size
        flat = torch.zeros(size, device=self.group.device)  # (W * m,)
        torch.cat([gradient.flatten() for gradient in gradients], out=flat[:n])
        mean = self.group.reduce_scatter(flat).wait().sum(0).div_(world_size)  # (m,)
        whole = self.group.all_gather(flat, mean).wait()
        for gradient, part in zip(gradients, whole[:n].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _squares(gradients: list[Tensor], device: torch.device) -> Tensor:
    """Return the sum of all elements' squares, fp64 (1,)."""
    if not gradients:
        return torch.zeros(1, dtype=torch.float64, device=device)
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    return norms.double().square().sum().reshape(1)
