"""ZeRO-3: every rank keeps 1/W of the masters, gradients and optimizer states, and borrows the rest.

    forward   unit i: wait for its whole; ask for unit i+1's; compute; free it
    backward  unit i: wait for its whole; ask for unit i-1's; compute; free it; reduce-scatter its gradient

The units (blocks) are modules, handed in in the order in which the forward pass runs them; whatever else
the model holds (embedding, head, final norm) is the root unit. Two wholes are not freed between forward
and backward: the root's, needed at both ends, and the last unit's, which the way back needs first.

Gradients are accumulated in the shards: every backward pass reduces, so that a step of A micro batches moves
A times the bytes and no rank ever holds a whole gradient of the model. Ranks must run the same units in the
same order. Not here: frozen parameters (refused), torch.compile, optimizers that need whole matrices.
Source: Rajbhandari et al. 2020 (ZeRO), section 5; what is kept and when is ours.
"""

import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function, Variable
from torch.autograd.graph import register_multi_grad_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from gpt.parallel.expert_spread import LocalExperts
from gpt.parallel.flat_parameter import FlatParameter
from gpt.parallel.process_group import Pending, ProcessGroup
from gpt.parallel.units import Unit, check_model, make_units

ELEMENTWISE = {"AdamW", "Adam", "SGD", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop"}
"""Optimizers whose update of an element looks at that element alone: right on any piece."""


class _Borrow(Function):
    """Whole parameters out of shards; on the way back, whole gradients into shards.

    Autograd calls backward once the unit's last gradient is there, with None for a parameter that got none.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, zero3: "Zero3", flat: FlatParameter) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.zero3, ctx.flat = zero3, flat
        return flat.tensors()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None, None]:
        ctx.zero3.reduce(ctx.flat, gradients)
        return None, None, None


class Zero3:
    """A model whose parameters are spread over the ranks. Call `.module` as the model."""

    def __init__(
        self,
        module: nn.Module,
        units: Sequence[Unit],
        group: ProcessGroup,
        prefetch: int,
        experts: LocalExperts,
    ) -> None:
        self.module, self.units, self.group, self.prefetch = module, units, group, prefetch
        self.experts = experts
        self.flats = [flat for unit in units for flat in unit.flats]
        self._anchor = torch.empty(0, requires_grad=True)
        self._reducing: tuple[FlatParameter, Pending, list[bool]] | None = None
        self._is_end_queued = False
        for unit in units:
            unit.module.register_forward_pre_hook(partial(self._before_forward, unit))
            unit.module.register_forward_hook(partial(self._after_forward, unit))
        ids = frozenset(id(piece) for flat in self.flats for piece in flat.pieces)
        handle = register_optimizer_step_pre_hook(partial(_check_optimizer, ids))
        weakref.finalize(self, handle.remove)

    def parameters(self) -> list[nn.Parameter]:
        """Return this rank's pieces and experts, for an elementwise optimizer; empty ones are left out."""
        return [piece for _, piece in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (name, piece (1, .., m)) under the model's own names, without the empty pieces.

        Spread experts (E/W, out, in) follow.
        """
        for flat in self.flats:
            for slot, piece in zip(flat.slots, flat.pieces, strict=True):
                if piece.numel():
                    yield slot.name, piece
        yield from self.experts.parameters.items()

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float) -> Tensor:
        """Scale the gradients so that their global norm is at most max_norm; return it as it was, fp32 ().

        Raises ValueError when a parameter got gradients on some ranks and none on others.
        """
        grads = [piece.grad for piece in self.parameters() if piece.grad is not None]
        counts = [float(n) for flat in self.flats for n in flat.n_gradients]
        row = torch.tensor([0.0, *counts], dtype=torch.float64, device=self.group.device)
        if grads:
            row[0] = torch.stack([torch.linalg.vector_norm(grad) for grad in grads]).double().square().sum()
        rows = self.group.gather_rows(row)  # (W, 1 + parameters)
        differs = (rows[:, 1:] != rows[0, 1:]).any(dim=0).nonzero()
        if len(differs):
            names = [slot.name for flat in self.flats for slot in flat.slots]
            raise ValueError(
                f"{names[int(differs[0])]}: got gradients on some ranks and none on others; "
                "every rank must run the same parameters"
            )
        norm = rows[:, 0].sum().sqrt().float()
        nn.utils.clip_grads_with_norm_(self.parameters(), max_norm, norm)
        return norm

    def full_tensors(self, pieces: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the whole fp32 parameters on rank 0, on the CPU, under the model's own names; {} elsewhere.

        With `pieces` (by name, as named_parameters has them), what lies like them: an optimizer's moments.
        All ranks must call it. Persistent buffers come along with the parameters.
        """
        full = self.experts.join(pieces)
        for flat in self.flats:
            shard = flat.shard
            if pieces is not None:
                shard = torch.zeros_like(flat.shard)
                for slot in flat.slots:
                    if slot.name in pieces:
                        slot.piece(shard).copy_(pieces[slot.name])
            joined = flat.join(shard)
            if self.group.rank == 0:
                full |= {name: tensor.to("cpu", copy=True) for name, tensor in joined.items()}
        if self.group.rank == 0 and pieces is None:
            parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
            state = self.module.state_dict()
            full |= {name: value.cpu() for name, value in state.items() if name not in parameters}
        return full

    def cut(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's pieces (1, .., m) of whole tensors; the other way round of full_tensors.

        Every rank passes the same tensors; nothing is sent. Raises ValueError for a name or shape amiss.
        """
        shapes = {slot.name: slot.shape for flat in self.flats for slot in flat.slots}
        if amiss := sorted({*shapes, *self.experts.parameters} ^ set(tensors)):
            raise ValueError(f"tensor {amiss[0]!r} is in the model or in what is loaded, but not in both")
        for name, shape in shapes.items():
            if tensors[name].shape != shape:
                raise ValueError(f"{name}: shape {tuple(tensors[name].shape)}, {tuple(shape)} is needed")
        return {
            slot.name: tensors[slot.name].flatten()[slot.there].view(piece.shape)
            for flat in self.flats
            for slot, piece in zip(flat.slots, flat.pieces, strict=True)
        } | self.experts.cut(tensors)

    @torch.no_grad()
    def load_full(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the parameters (and persistent buffers) of full_tensors, given whole on every rank."""
        own = {slot.name for flat in self.flats for slot in flat.slots} | set(self.experts.parameters)
        buffers = dict(self.module.named_buffers())
        for name in sorted((set(tensors) - own) & set(buffers)):
            buffers[name].copy_(tensors[name])
        cut = self.cut({name: tensor for name, tensor in tensors.items() if name not in buffers})
        for flat in self.flats:
            flat.free()  # what is gathered is of the old ones
            for slot in flat.slots:
                slot.piece(flat.shard).copy_(cut[slot.name])
        self.experts.load(tensors)

    def reduce(self, flat: FlatParameter, gradients: Sequence[Tensor | None]) -> None:
        """Send a unit's gradients on their way, once autograd has the last of them."""
        assert flat.is_gathered, f"{flat.slots[0].name}: the way back ran without its parameters"
        self._queue_end()
        flat.n_users -= 1
        if flat.n_users <= 0 and flat not in self.units[0].flats:
            flat.free()
        self._finish_reduce()
        has_gradient = [gradient is not None for gradient in gradients]
        self._reducing = flat, flat.start_reduce(gradients), has_gradient

    def _before_forward(self, unit: Unit, module: nn.Module, inputs: object) -> None:
        is_root = unit is self.units[0]
        is_recomputed = not is_root and unit.is_used()
        if is_root:  # whatever an earlier pass has left is of older weights
            for flat in self.flats:
                flat.n_users = 0
                flat.free()
                flat.drop_cleared()
        self._gather(unit, ahead=0 if is_recomputed else 1)
        for flat in unit.flats:
            is_taped = torch.is_grad_enabled()
            flat.install(_Borrow.apply(self._anchor, self, flat) if is_taped else flat.tensors())

    def _after_forward(self, unit: Unit, module: nn.Module, inputs: object, outputs: object) -> None:
        if unit is not self.units[0] and unit.is_used():
            return  # recomputed for the way back, which is about to need it
        differentiable = [tensor for tensor in _tensors(outputs) if tensor.requires_grad]
        is_kept = bool(differentiable) and unit in (self.units[0], self.units[-1])
        for flat in unit.flats:
            flat.install(flat.pieces) if is_kept else flat.free()
        if differentiable:
            register_multi_grad_hook(differentiable, lambda _: self._before_backward(unit), mode="any")

    def _before_backward(self, unit: Unit) -> None:
        self._queue_end()
        for flat in unit.flats:
            flat.n_users += 1
        self._gather(unit, ahead=-1)

    def _gather(self, unit: Unit, ahead: int) -> None:
        """Wait for a unit's whole, having asked for those of the next ones forward (1) or backward (-1)."""
        for flat in unit.flats:
            flat.start_gather()
        here = self.units.index(unit) or (len(self.units) if ahead < 0 else 0)
        for distance in range(1, self.prefetch + 1 if ahead else 1):
            there = here + ahead * distance
            if 0 < there < len(self.units):
                for flat in self.units[there].flats:
                    flat.start_gather()
        for flat in unit.flats:
            flat.wait_gathered()

    def _finish_reduce(self) -> None:
        if self._reducing is not None:
            flat, pending, has_gradient = self._reducing
            self._reducing = None
            flat.finish_reduce(pending, has_gradient)

    def _queue_end(self) -> None:
        if not self._is_end_queued:
            self._is_end_queued = True
            Variable._execution_engine.queue_callback(self._end_backward)

    def _end_backward(self) -> None:
        self._is_end_queued = False
        self._finish_reduce()
        for flat in self.flats:
            flat.n_users = 0
            flat.free()


def shard_zero3(
    model: nn.Module,
    units: Sequence[nn.Module],
    group: ProcessGroup,
    *,
    compute_dtype: torch.dtype = torch.float32,
    reduce_dtype: torch.dtype = torch.float32,
    prefetch: int = 1,
    fp32_endings: Collection[str] = (),
) -> Zero3:
    """Spread a model over the ranks, in place; every rank must hold the same weights.

    `prefetch` is the number of units asked for ahead of the one that computes. Parameters whose names end
    in one of `fp32_endings` are gathered and reduced in fp32 whatever the dtypes (a mixture's
    "router.weight"). Experts that have been spread stay with their ranks, as fp32 masters that are cast when
    they compute. Raises ValueError that names what cannot be sharded.
    """
    experts = LocalExperts(model, group)
    check_model(model, units, group, compute_dtype, reduce_dtype, experts.parameters)
    if prefetch < 0:
        raise ValueError(f"prefetch: 0 or more units are needed, got {prefetch}")
    own = list(experts.parameters.values())
    made = make_units(model, units, group, compute_dtype, reduce_dtype, tuple(fp32_endings), own)
    return Zero3(model, made, group, prefetch, experts)


def _check_optimizer(pieces: frozenset[int], optimizer: Optimizer, *_: object) -> None:
    """Refuse an optimizer that would take a rank's slice for a matrix, when it is about to step."""
    name = type(optimizer).__name__
    if name not in ELEMENTWISE and any(
        id(parameter) in pieces for group in optimizer.param_groups for parameter in group["params"]
    ):
        raise ValueError(
            f"optim.name: {name} needs whole matrices and ZeRO-3 gives each rank a slice of them; write adamw"
        )


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors of a module's output: a tensor, or a tuple, list or dict of outputs."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
