"""Sharded saves beside the training: torch's DCP plans and coordinates them, our files hold them.

`async_save` copies to host memory, then plans, writes and finishes in a thread, with collectives of a group
of its own. A rank writes its runs of elements into one safetensors file, hashed on the way; when all have,
rank 0 writes index, state and manifest and renames the folder: it appears whole or not at all. What fails on
one rank fails the save on all. The folder must be on a disk that all ranks see.
"""

import contextlib
import datetime
import os
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, DefaultSavePlanner, StorageWriter, async_save
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import WriteResult

from gpt.checkpoint import resume
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.durable_file import write_durably
from gpt.checkpoint.resume import ResumeState
from gpt.checkpoint.safetensors import write_safetensors
from gpt.checkpoint.sharded import INDEX, Entry, Run, write_index
from gpt.parallel.engine import Engine, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """This rank's elements of one tensor."""

    place: Place
    values: Tensor
    """(n,)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a rank says of a run that it has written."""

    sha256: str
    """Of the file."""
    dtype: torch.dtype
    shape: torch.Size
    run: Run


class ShardedSaver:
    """Saves resume states of many ranks into a folder, one at a time. Every rank makes the same calls."""

    def __init__(self, resume_dir: Path, engine: Engine) -> None:
        self.resume_dir, self.engine = resume_dir, engine
        timeout = datetime.timedelta(seconds=engine.group.timeout_s)
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        """The thread's collectives must never meet those of the training."""
        self._future: Future[Metadata] | None = None
        self._writer: Writer | None = None
        self._step = 0

    def start(self, state: ResumeState) -> None:
        """Copy a state to host memory and begin to write it. Raises what the save before raised."""
        self.wait()
        pieces = own_pieces(state, self.engine)
        self._step, self._writer = state.step, Writer(self.resume_dir, state, self.engine.group.rank)
        self._future = async_save(  # type: ignore[assignment]
            {name: piece.values for name, piece in pieces.items()},
            storage_writer=self._writer,
            planner=Planner({name: piece.place for name, piece in pieces.items()}),
            process_group=self._group,
        )

    def poll(self) -> None:
        """Raise what the save in flight raised, if it has ended; never wait."""
        if not self.is_busy():
            self.wait()

    def is_busy(self) -> bool:
        """Return whether a save is being written."""
        return self._future is not None and not self._future.done()

    def wait(self) -> None:
        """Wait for the save in flight. Raises OSError when a rank cannot write, PeerLost when one is gone."""
        if self._future is None:
            return
        future, writer, self._future, self._writer = self._future, self._writer, None, None
        assert writer is not None
        try:
            future.result()
        except CheckpointException as error:
            writer.abandon()
            raise self._explained(error) from None
        except RuntimeError as error:
            raise self.engine.group.peer_lost("saving", error) from None

    def _explained(self, error: CheckpointException) -> BaseException:
        """Return the error of the first rank that failed; of a disk, with the step and the rank."""
        rank, (cause, _) = min(error.failures.items())
        if not isinstance(cause, OSError):
            return cause
        return OSError(
            cause.errno,
            f"the checkpoint of step {self._step} failed on rank {rank} ({cause.strerror or cause})",
            str(cause.filename or self.resume_dir),
        )


def own_pieces(state: ResumeState, engine: Engine) -> dict[str, Piece]:
    """Return this rank's elements of every tensor of a state, by `<part>/<name>`; empty ones are left out.

    A moment lies like its parameter. What does not (a step counter) is whole and the same on every rank that
    has elements of the parameter; DCP writes it once. A rank without any may hold an old one: left out too.
    """
    pieces = {}
    for part in resume.TENSORS:
        for name, tensor in getattr(state, part).items():
            place = engine.place(name.rpartition("|")[2])
            if place.start == place.stop:
                continue
            if tensor.ndim != len(place.shape):
                place = Place(shape=tensor.shape, start=0, stop=tensor.numel())
            pieces[f"{part}/{name}"] = Piece(place=place, values=engine.local(tensor))
    return pieces


class Planner(DefaultSavePlanner):
    """Says which run of elements each of this rank's vectors is; DCP finds gaps, overlaps and duplicates."""

    def __init__(self, places: dict[str, Place]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.places = places

    def create_local_plan(self) -> SavePlan:
        """Return one item a tensor."""
        items = []
        for name, values in self.state_dict.items():
            place = self.places[name]
            offset = torch.Size([place.start])
            chunk = ChunkStorageMetadata(offsets=offset, sizes=torch.Size([place.stop - place.start]))
            properties = TensorProperties(dtype=values.dtype)
            size = torch.Size([place.shape.numel()])
            data = TensorWriteData(chunk=chunk, properties=properties, size=size)
            items.append(WriteItem(MetadataIndex(name, offset), WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items, storage_data=self.places)
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        """Return the vector of an item."""
        return self.state_dict[index.fqn]


class Writer(StorageWriter):
    """Writes `step-N`: a file a rank; then, on rank 0, what makes a folder of them."""

    def __init__(self, resume_dir: Path, state: ResumeState, rank: int) -> None:
        self.resume_dir, self.state, self.rank = resume_dir, state, rank
        self.rest = resume.rest_of(state)
        self.target = resume_dir / f"step-{state.step}"
        self.folder = resume_dir / f".step-{state.step}.tmp"
        self._open = contextlib.ExitStack()
        self._hashes: dict[str, str] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Do nothing: a writer writes once."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Make the temporary folder, on rank 0. Raises OSError."""
        if is_coordinator:
            self.folder = self._open.enter_context(atomic_folder(self.target, self._hashes))

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Return the plans as they are, once the disk is known to hold them. Raises OSError."""
        sizes = [
            d.chunk.sizes[0] * d.properties.dtype.itemsize
            for p in plans
            for i in p.items
            if (d := i.tensor_data)
        ]
        resume.check_free(self.target, sum(sizes))
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> torch.futures.Future[list[WriteResult]]:
        """Write this rank's file. Raises OSError."""
        name = f"shard-{self.rank:05d}.safetensors"
        if not self.folder.is_dir():
            raise FileNotFoundError(
                2, "not there on this rank; all ranks need one disk for it", str(self.folder)
            )
        tensors, items = dict[str, Tensor](), dict[str, WriteItem]()
        for item in plan.items:
            key = f"{item.index.fqn}@{item.index.offset[0]}" if item.index.offset else item.index.fqn
            values = planner.resolve_data(item)
            assert isinstance(values, Tensor)
            tensors[key], items[key] = values, item
        sha256 = write_safetensors(self.folder / name, tensors) if tensors else ""
        done: torch.futures.Future[list[WriteResult]] = torch.futures.Future()
        done.set_result(
            [self._result(name, key, item, sha256, plan.storage_data) for key, item in items.items()]
        )
        return done

    def _result(
        self, file: str, key: str, item: WriteItem, sha256: str, places: dict[str, Place]
    ) -> WriteResult:
        place, data = places[item.index.fqn], item.tensor_data
        assert data is not None
        run = Run(file=file, key=key, start=place.start, stop=place.stop)
        written = Written(sha256=sha256, dtype=data.properties.dtype, shape=place.shape, run=run)
        return WriteResult(index=item.index, size_in_bytes=0, storage_data=written)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write index and state; the folder gets manifest and name; older states go. Raises OSError."""
        entries: dict[str, Entry] = {}
        for result in (result for rank in results for result in rank):
            written: Written = result.storage_data
            runs = entries[result.index.fqn].runs if result.index.fqn in entries else ()
            entries[result.index.fqn] = Entry(
                dtype=written.dtype, shape=written.shape, runs=(*runs, written.run)
            )
            self._hashes[written.run.file] = written.sha256
        self._hashes[INDEX] = write_durably(self.folder / INDEX, [write_index(entries)])
        self._hashes["state.json"] = write_durably(self.folder / "state.json", [self.rest])
        self._open.close()
        resume.rotate(self.resume_dir, self.state.step)

    def abandon(self) -> None:
        """Remove the temporary folder of a save that failed."""
        with contextlib.suppress(_Abandoned), self._open:
            raise _Abandoned

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return False: nobody chooses this writer by a path."""
        return False


class _Abandoned(Exception):
    """Ends a temporary folder's context as a failure."""
