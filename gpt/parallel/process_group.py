"""The ranks that train one model together, and the three collectives that they need.

Ranks come from torchrun's environment variables; without them there is one, which needs no
torch.distributed. Every collective is counted by its own size, and one that fails says which rank lost its
peers at which step. Not here: what is sent (flat_parameter.py) and when (zero3.py).
"""

import contextlib
import datetime
import hashlib
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

Backend = Literal["auto", "gloo", "nccl"]
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process."""
EXIT_PEER_LOST = 75
"""A passing failure, worth a retry: the same command resumes."""

# newer torch calls them *_single and warns of the old names; a GPU machine may carry an older one
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
LAUNCHER = "RAWGPT_LAUNCHER"
"""Set by launch.py, which says itself, once for all ranks, that one was lost."""
COLLECTIVE_FAILED = re.compile("gloo|nccl|Connection (closed|reset)|ProcessGroup", re.IGNORECASE)
"""Of torch's messages."""
WORD_BYTES = 512
"""Of a sentence that ranks tell one another."""


class PeerLost(RuntimeError):
    """A collective failed: a peer died, hangs, or is not where all ranks must be together."""


class Pending:
    """A collective under way. It holds what is sent for as long as it lives itself."""

    def __init__(
        self, group: "ProcessGroup", name: str, works: list[dist.Work], sent: Tensor, result: Tensor
    ) -> None:
        self.group, self.name, self.works = group, name, works
        self.sent, self.result = sent, result

    def wait(self) -> Tensor:
        """Return the result, usable on the current stream. Raises PeerLost."""
        try:
            for work in self.works:
                work.wait()
        except RuntimeError as error:
            raise self.group.peer_lost(self.name, error) from None
        self.works = []
        return self.result


class ProcessGroup:
    """This process among the others. As a context it closes itself, and ends the process on PeerLost."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        local_rank: int,
        device: torch.device,
        *,
        backend: str = "none",
        timeout_s: float = 0.0,
    ) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self.device, self.backend, self.timeout_s = device, backend, timeout_s
        self.step = 0
        """The training step, for messages; the loop sets it."""
        self.bytes_moved: Counter[str] = Counter()
        """Bytes that this rank received (of a reduce-scatter: sent), by collective; its own part is none."""

    def __enter__(self) -> "ProcessGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PeerLost):
            sys.stdout.flush()
            if LAUNCHER not in os.environ:
                print(error, file=sys.stderr, flush=True)
            os._exit(EXIT_PEER_LOST)  # an orderly end would wait for the peer that is gone
        close_group(self)

    def all_gather(self, whole: Tensor, part: Tensor, *, name: str = "all_gather") -> Pending:
        """Start filling whole (W * n,) with every rank's part (n,), cast to whole's dtype on the way.

        Gloo's own all-gather fills a second whole and copies it; a broadcast of each part goes to its place.
        """
        parts = whole.view(self.world_size, -1)  # (W, n)
        parts[self.rank].copy_(part)
        self.bytes_moved[name] += whole.nbytes - parts[0].nbytes
        if self.world_size == 1:
            return Pending(self, name, [], whole, whole)
        if self.backend == "nccl":
            own = parts[self.rank]  # in place, which nccl knows by the address
            return self._start(name, own, whole, lambda: [_all_gather(whole, own, async_op=True)])
        return self._start(
            name, whole, whole, lambda: [dist.broadcast(p, i, async_op=True) for i, p in enumerate(parts)]
        )

    def reduce_scatter(self, whole: Tensor) -> Pending:
        """Start adding whole (W * n,) up over the ranks. The result is (A, n), this rank's part of the sum
        still in A addends: whoever waits for it adds them, in a wider type than they were sent in.

        Gloo's own reduce-scatter is an all-reduce of everything, which moves twice the bytes. An all-to-all
        moves what the formula says, and its sum has one order.
        """
        addends, name = whole.view(self.world_size, -1), "reduce_scatter"  # (W, n)
        self.bytes_moved[name] += whole.nbytes - addends[0].nbytes
        if self.world_size == 1:
            return Pending(self, name, [], whole, addends)
        if self.backend == "nccl":
            total = torch.empty_like(addends[:1])  # (1, n)
            return self._start(name, whole, total, lambda: [_reduce_scatter(total[0], whole, async_op=True)])
        received, call = torch.empty_like(addends), dist.all_to_all_single  # (W, n)
        return self._start(name, whole, received, lambda: [call(received, addends, async_op=True)])

    def all_to_all(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Pending:
        """Start sending rows (sum(send), C), the first send[0] of them to rank 0, the next to rank 1.

        The result is (sum(receive), C): what rank 0 sent here, then what rank 1 did. A rank may send or
        receive nothing; send[r] here must be receive[rank] on rank r.
        """
        rows, name = rows.contiguous(), "all_to_all"
        received = rows.new_empty((sum(receive), *rows.shape[1:]))
        row_bytes = rows.itemsize * math.prod(rows.shape[1:])
        self.bytes_moved[name] += (len(received) - receive[self.rank]) * row_bytes
        if self.world_size == 1:
            return Pending(self, name, [], rows, rows)
        splits, call = (list(receive), list(send)), dist.all_to_all_single
        return self._start(name, rows, received, lambda: [call(received, rows, *splits, async_op=True)])

    def gather_rows(self, row: Tensor) -> Tensor:
        """Return every rank's row (n,) as (W, n), the same bits on each rank. Waits."""
        rows = torch.empty(self.world_size * row.numel(), dtype=row.dtype, device=row.device)
        return self.all_gather(rows, row, name="rows").wait().view(self.world_size, -1)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over the ranks, the same bits on each rank. Waits."""
        return self.gather_rows(value.detach().reshape(1)).mean()

    @contextlib.contextmanager
    def naming_losses(self) -> Iterator[None]:
        """Raise PeerLost for a collective of torch's own that failed: FSDP2 raises what it likes."""
        try:
            yield
        except PeerLost:
            raise
        except RuntimeError as error:
            is_named = isinstance(error, dist.DistError) or COLLECTIVE_FAILED.search(str(error))
            if self.world_size == 1 or not is_named:
                raise
            raise self.peer_lost("a collective", error) from None

    def first_word(self, text: str) -> str:
        """Return the text of the lowest rank that has one, cut to WORD_BYTES; "" when none has. Waits."""
        if self.world_size == 1:
            return text
        row = torch.zeros(WORD_BYTES, dtype=torch.uint8, device=self.device)
        said = text.encode()[:WORD_BYTES]
        row[: len(said)] = torch.tensor([*said], dtype=torch.uint8)
        rows = self.gather_rows(row).cpu()  # (W, WORD_BYTES)
        words = (bytes(word.tolist()).rstrip(b"\0").decode(errors="ignore") for word in rows)
        return next(filter(None, words), "")

    def peer_lost(self, name: str, error: RuntimeError) -> PeerLost:
        """Return the one message for a collective that failed."""
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        return PeerLost(
            f"rank {self.rank} of {self.world_size}, step {self.step}: {name} failed; another rank died or "
            f"did not answer within {self.timeout_s:g} s. Ending with exit code {EXIT_PEER_LOST}; see that "
            f"rank's output, then run the same command again ({cause})"
        )

    def _start(self, name: str, sent: Tensor, result: Tensor, call: Callable[[], list[dist.Work]]) -> Pending:
        try:
            return Pending(self, name, call(), sent, result)
        except RuntimeError as error:
            raise self.peer_lost(name, error) from None


def open_group(backend: Backend = "auto", timeout_s: float = 600.0) -> ProcessGroup:
    """Meet the other ranks; alone (world size 1) when none of torchrun's variables is set.

    `auto` is nccl where there is a GPU and gloo elsewhere. A collective that takes longer than timeout_s
    fails. Raises ValueError when only some of the variables are set or a GPU is missing, PeerLost when the
    ranks do not meet in time.
    """
    if timeout_s <= 0:
        raise ValueError(f"timeout_s: a positive number of seconds is needed, got {timeout_s}")
    if backend == "auto":
        backend = "nccl" if torch.cuda.is_available() else "gloo"
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing and len(missing) < len(VARIABLES):
        raise ValueError(f"{missing[0]}: not set, though others of {', '.join(VARIABLES)} are; use torchrun")
    rank, world_size, local_rank = (0, 1, 0) if missing else (int(os.environ[name]) for name in VARIABLES[:3])
    device = torch.device("cpu")
    if backend == "nccl":
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"backend: nccl needs a GPU for each rank; local rank {local_rank}, "
                f"{torch.cuda.device_count()} GPUs; write gloo or start fewer ranks"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    group = ProcessGroup(rank, world_size, local_rank, device, backend=backend, timeout_s=timeout_s)
    if world_size > 1:
        try:
            dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_s))
        except RuntimeError as error:
            raise group.peer_lost("meeting the other ranks", error) from None
    return group


def close_group(group: ProcessGroup) -> None:
    """Leave the other ranks; a world of one has nothing to leave."""
    if group.world_size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def rank_seed(seed: int, step: int, rank: int) -> int:
    """Return what a rank seeds torch with for a step: dropout masks differ by rank, and rank 0's are those
    of a run in one process. A function of its arguments: nothing of it needs saving."""
    text = f"{seed}/{step}/{rank}" if rank else f"{seed}/{step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
