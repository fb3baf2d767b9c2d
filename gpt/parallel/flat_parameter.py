"""The parameters of one unit as one flat vector, of which every rank keeps 1/W.

    whole    |q_proj....|k_proj..|v_proj..|norm|0|       gathered in the compute dtype, freed after use
    shards   |------ rank 0 -----|------ rank 1 -----|   fp32 masters, kept; their gradients lie likewise
    pieces   |q_proj....|k_proj..|v_proj..|norm|         what an optimizer sees, parameter by parameter

ZeRO-3: Rajbhandari et al. 2020, section 5. One flat vector a unit: Zhao et al. 2023 (FSDP), section 3.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt.parallel.process_group import Pending, ProcessGroup

ALIGNMENT = 16
"""Elements: every parameter and every shard begins at a multiple, or matmuls would read unaligned memory."""
Owner = tuple[nn.Module, str]
"""A module and the attribute under which it holds a parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One parameter's place in the flat vector, and the part of it that this rank keeps."""

    name: str
    """The model's own name; of a tied parameter the first of its names."""
    owners: tuple[Owner, ...]
    """Several when it is tied."""
    shape: torch.Size
    span: slice
    """Elements of the whole."""
    here: slice
    """Elements of this rank's shard; empty when other ranks have it all."""
    there: slice
    """The same elements of the flattened parameter."""

    def piece(self, shard: Tensor) -> Tensor:
        """Return this rank's piece (1, .., m) out of a vector (n,) that lies like its shard.

        It has as many dimensions as the parameter, so that rules by ndim (weight decay on matrices) hold.
        """
        return shard[self.here].view((1,) * (len(self.shape) - 1) + (-1,))

    def parameter(self, whole: Tensor) -> Tensor:
        """Return the parameter out of a vector (W * n,) that lies like the whole."""
        return whole[self.span].view(self.shape)


class FlatParameter:
    """Masters, gradients and the gathered whole of some parameters of one unit."""

    def __init__(
        self,
        owners: Mapping[str, Sequence[Owner]],
        group: ProcessGroup,
        *,
        compute_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
    ) -> None:
        self.group, self.compute_dtype, self.reduce_dtype = group, compute_dtype, reduce_dtype
        values = {name: getattr(*places[0]).detach() for name, places in owners.items()}
        self.n = _aligned(-(-sum(_aligned(value.numel()) for value in values.values()) // group.world_size))
        """Elements of one shard."""
        self.shard = torch.zeros(self.n, device=group.device)  # (n,) fp32
        self.grad_shard: Tensor | None = None  # (n,) fp32, from the first backward pass on
        self.slots: list[Slot] = []
        offset = 0
        for name, value in values.items():
            slot = self._slot(name, tuple(owners[name]), value.shape, offset)
            self.shard[slot.here] = value.flatten()[slot.there].to(group.device)
            self.slots.append(slot)
            offset += _aligned(value.numel())
        self.pieces = [nn.Parameter(slot.piece(self.shard)) for slot in self.slots]
        self.n_gradients = [0] * len(self.slots)
        """Backward passes that brought each parameter a gradient."""
        self.n_users = 0
        """Graphs on their way back that still need the whole."""
        self.whole = torch.empty(group.world_size * self.n, dtype=compute_dtype, device=group.device)
        self.whole_bytes = self.whole.nbytes
        self.is_gathered = False
        self._pending: Pending | None = None
        self._resize(0)
        self.install(self.pieces)

    def start_gather(self) -> None:
        """Ask the other ranks for their shards, unless that has been done. Does not wait."""
        if not self.is_gathered:
            self._resize(self.whole_bytes)
            self._pending = self.group.all_gather(self.whole, self.shard)
            self.is_gathered = True

    def wait_gathered(self) -> None:
        """Wait until the whole is here; gather it if nobody has asked for it."""
        self.start_gather()
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def free(self) -> None:
        """Give the whole's memory back; the pieces stand in the model again."""
        if self.is_gathered:
            self.wait_gathered()
            self._resize(0)
            self.is_gathered = False
        self.install(self.pieces)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return fresh tensors of the parameters' shapes on the whole's memory.

        They share its memory and not its version counter: autograd keeps them for the way back, when the
        memory has been freed and filled again with the same numbers.
        """
        storage = self.whole.untyped_storage()
        return tuple(
            self.whole.new_empty(0).set_(storage, slot.span.start, slot.shape)  # type: ignore[call-overload]
            for slot in self.slots
        )

    def install(self, tensors: Sequence[Tensor]) -> None:
        """Put tensors where the model looks for its parameters."""
        for slot, tensor in zip(self.slots, tensors, strict=True):
            for module, attribute in slot.owners:
                module._parameters[attribute] = tensor  # type: ignore[assignment]

    def start_reduce(self, gradients: Sequence[Tensor | None]) -> Pending:
        """Begin to add up the ranks' gradients (the parameters' shapes; None counts as zeros)."""
        flat = torch.empty(self.whole.numel(), dtype=self.reduce_dtype, device=self.group.device)
        end = 0
        for slot, gradient in zip(self.slots, gradients, strict=True):
            flat[end : slot.span.start] = 0
            slot.parameter(flat).copy_(gradient if gradient is not None else flat.new_zeros(()))
            end = slot.span.stop
        flat[end:] = 0
        return self.group.reduce_scatter(flat)

    def finish_reduce(self, pending: Pending, has_gradient: Sequence[bool]) -> None:
        """Add the mean over the ranks to the pieces' gradients, in fp32.

        A parameter without a gradient keeps none, so that the optimizer passes it over.
        """
        addends = pending.wait()  # (A, n)
        is_first = all(piece.grad is None for piece in self.pieces)
        if self.grad_shard is None:
            self.grad_shard = torch.empty_like(self.shard)
        mean = self.grad_shard if is_first else torch.empty_like(self.shard)  # (n,)
        torch.sum(addends, 0, dtype=torch.float32, out=mean).div_(self.group.world_size)
        for i, (slot, piece) in enumerate(zip(self.slots, self.pieces, strict=True)):
            self.n_gradients[i] += has_gradient[i]
            if not has_gradient[i] or not piece.numel():
                continue
            if piece.grad is not None:
                piece.grad += slot.piece(mean)
                continue
            if not is_first:
                self.grad_shard[slot.here] = mean[slot.here]
            piece.grad = slot.piece(self.grad_shard)

    def drop_cleared(self) -> None:
        """Give the gradients' memory back once all have been cleared: activations need it before they do."""
        if all(piece.grad is None for piece in self.pieces):
            self.grad_shard = None

    def join(self, shard: Tensor) -> dict[str, Tensor]:
        """Return whole tensors by name from every rank's vector (n,) that lies like its shard."""
        whole = torch.empty(self.whole.numel(), dtype=shard.dtype, device=shard.device)
        self.group.all_gather(whole, shard, name="join").wait()
        return {slot.name: slot.parameter(whole) for slot in self.slots}

    def _slot(self, name: str, owners: tuple[Owner, ...], shape: torch.Size, offset: int) -> Slot:
        end, start = offset + shape.numel(), self.group.rank * self.n
        first = min(max(offset, start), end)
        last = max(min(end, start + self.n), first)
        begin = first - start if last > first else 0
        return Slot(
            name=name,
            owners=owners,
            shape=shape,
            span=slice(offset, end),
            here=slice(begin, begin + last - first),
            there=slice(first - offset, last - offset),
        )

    def _resize(self, n_bytes: int) -> None:
        self.whole.untyped_storage().resize_(n_bytes)


def _aligned(n: int) -> int:
    """Return n rounded up to the alignment."""
    return -(-n // ALIGNMENT) * ALIGNMENT
