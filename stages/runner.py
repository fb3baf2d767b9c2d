"""The frame around every stage: lock, params, tracking, temporary output, exit code.

    @stage(config=ShardConfig, inputs=("documents", "tokenizer"))
    def shard(config: ShardConfig, run: StageRun) -> dict[str, float]: ...

    if __name__ == "__main__":
        raise SystemExit(shard.main())

A stage is one command: `python -m stages.shard --documents PATH --tokenizer PATH --out DIR`.
Flags carry paths only. Results appear in DIR only when the stage succeeded.
"""

import argparse
import errno
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from gpt.config import fingerprint, load_section, to_dict, to_dotted
from gpt.parallel.config import ParallelConfig
from gpt.train.config import shaping_dials
from gpt.train.metrics import LOG, MetricSink, Tee
from stages import tracking
from stages.outputs import code_hash, house_modules, install_outputs, tree_hash, write_json

if TYPE_CHECKING:
    from gpt.parallel.process_group import ProcessGroup

EXIT_USER, EXIT_FAULT, EXIT_RETRY = 1, 2, 75
LOCK_WAIT_S = 5.0
ORPHAN_POLL_S = 0.5
RESUME_DIR = Path("models/.resume")


class PassingFailure(Exception):
    """A failure that may pass (a network, a full queue): exit code 75, which Prefect retries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineConfig:
    """The one section that stages share: `machine` in params.yaml."""

    device: str
    """cpu, cuda or mps."""
    threads: int
    """CPU threads of torch, for each rank; part of what makes a run repeat bit for bit."""
    parallel: ParallelConfig

    def __post_init__(self) -> None:
        if self.device.partition(":")[0] not in ("cpu", "cuda", "mps"):
            raise ValueError(f"device: got {self.device!r}; choose cpu, cuda or mps")
        if self.threads < 1:
            raise ValueError(f"threads: at least 1 is needed, got {self.threads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRun:
    """What a stage is handed beside its config."""

    name: str
    """Stage name with its variant: `scale-dense`."""
    variant: str | None
    inputs: dict[str, Path]
    """Input paths by flag name."""
    out: Path
    """Fresh temporary folder; its entries are moved into `--out` on success."""
    resume_dir: Path
    """Where resumable state lives: models/.resume/<stage>/<fingerprint>; outside DVC's outs."""
    machine: MachineConfig
    sink: MetricSink
    group: "ProcessGroup | None" = None
    """The ranks of this stage, of which those beside the first write nothing; None where it has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage function and its declaration."""

    name: str
    config: type
    inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...]
    run: Callable[[Any, StageRun], dict[str, Any]]
    on_ranks: bool = False
    """Whether machine.parallel holds for it; every other stage runs in one process."""

    def main(self, argv: list[str] | None = None) -> int:
        """Run as a command; return the exit code."""
        parser = argparse.ArgumentParser(prog=f"python -m stages.{self.name}")
        parser.add_argument("--variant", default=None, help="matrix variant: its params section")
        parser.add_argument("--params", type=Path, default=Path("params.yaml"))
        parser.add_argument("--out", type=Path, required=True)
        for flag in self.inputs + self.optional_inputs:
            parser.add_argument(f"--{flag}", type=Path, required=flag in self.inputs)
        args = parser.parse_args(argv)
        label = self.name if args.variant is None else f"{self.name}-{args.variant}"
        _die_with_parent()
        signal.signal(signal.SIGTERM, _raise_terminated)
        try:
            return self._start(args, label, sys.argv[1:] if argv is None else argv)
        except (ValueError, FileNotFoundError) as error:
            return _fail(label, error, EXIT_USER)
        except PassingFailure as error:
            return _fail(label, error, EXIT_RETRY)
        except OSError as error:
            return _fail(label, _explain(error), EXIT_FAULT)
        except KeyboardInterrupt:
            print(f"{label}: stopped; the same command resumes", file=sys.stderr)
            return 130
        except Exception:
            traceback.print_exc()
            return _fail(label, "a fault of rawgpt, not of yours: please report it", EXIT_FAULT)

    def _start(self, args: argparse.Namespace, label: str, argv: list[str]) -> int:
        """Run in this process, or on the ranks of machine.parallel."""
        if self.on_ranks:
            from stages.ranks import run_on_ranks  # torch: seconds, for stages that compute nothing

            machine = load_section(args.params, "machine", MachineConfig)
            work = partial(self._run, args, label)
            return run_on_ranks(self.name, label, argv, machine, work, partial(self._locked, label))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("runs in one process; start it without torchrun")
        return self._locked(label, partial(self._run, args, label, None))

    def _locked(self, label: str, work: Callable[[], int]) -> int:
        """Hold the stage's lock for the whole run; the kernel frees it when the process dies."""
        lock_path = Path("models/.locks") / f"{label}.lock"
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path)
        owner = lock_path.with_suffix(".pid")
        try:
            lock.acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            pid = owner.read_text() if owner.exists() else "unknown"
            raise ValueError(f"already running as process {pid}; wait for it or stop it") from None
        with lock:
            owner.write_text(str(os.getpid()))
            return work()

    def _run(self, args: argparse.Namespace, label: str, group: "ProcessGroup | None") -> int:
        section = self.name if args.variant is None else f"{self.name}.{args.variant}"
        config: Any = load_section(args.params, section, self.config)
        machine = load_section(args.params, "machine", MachineConfig)
        inputs = {
            flag: getattr(args, flag)
            for flag in self.inputs + self.optional_inputs
            if getattr(args, flag) is not None
        }
        for flag, path in inputs.items():
            if not path.exists():
                raise ValueError(f"--{flag} {path}: no such path; run `dvc repro {path}` first")
        modules = house_modules()
        code = code_hash(modules)
        hashes = {k: tree_hash(p) for k, p in inputs.items()}
        dials = to_dict(config)
        if "train" in dials:  # a run resumes across a change of the dials that shape nothing
            dials["train"] = shaping_dials(dials["train"])
        dials.pop("workers", None)  # nor does who works on the parts
        shaping = to_dict(machine)
        shaping.pop("parallel")  # a state is read by any number of ranks and any engine
        key = fingerprint(dials, shaping, code, hashes)
        run = StageRun(
            name=label,
            variant=args.variant,
            inputs=inputs,
            out=args.out.parent / f".{args.out.name}.tmp",
            resume_dir=RESUME_DIR / label / key,
            machine=machine,
            sink=Tee(),
            group=group,
        )
        if group is not None and group.rank:
            self.run(config, run)
            return 0
        _say_what_is_not_resumed(label, key)
        temporary = run.out
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        sink = tracking.open_stage_run(label, to_dotted(config, section))
        started = time.monotonic()
        status = "FAILED"
        try:
            metrics = self.run(config, replace(run, sink=sink))
            if load_section(args.params, section, self.config) != config or code_hash(modules) != code:
                raise ValueError("code or params changed while it ran; run `dvc repro` again")
            metrics["time_s"] = round(time.monotonic() - started, 1)
            write_json(temporary / "metrics.json", metrics)
            _keep_logs(run.resume_dir, temporary)
            install_outputs(temporary, args.out)
            if metrics.get("stopped_by") != "budget":  # a larger budget goes on from there
                shutil.rmtree(RESUME_DIR / label, ignore_errors=True)  # done: nothing to resume
            sink.log(0, {f"final.{k}": v for k, v in metrics.items() if isinstance(v, int | float)})
            status = "FINISHED"
        except (SystemExit, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            tracking.close_stage_run(sink, status)
            shutil.rmtree(temporary, ignore_errors=True)
        return 0


def stage(
    *,
    config: type,
    inputs: tuple[str, ...] = (),
    optional_inputs: tuple[str, ...] = (),
    on_ranks: bool = False,
) -> Callable[[Callable[[Any, StageRun], dict[str, Any]]], Stage]:
    """Declare a stage; the function's name is the stage's, the file's and the section's name."""

    def wrap(function: Callable[[Any, StageRun], dict[str, Any]]) -> Stage:
        return Stage(
            name=function.__name__,
            config=config,
            inputs=inputs,
            optional_inputs=optional_inputs,
            run=function,
            on_ranks=on_ranks,
        )

    return wrap


def _fail(label: str, error: object, code: int) -> int:
    print(f"{label}: {error}", file=sys.stderr)
    return code


def _say_what_is_not_resumed(label: str, key: str) -> None:
    """Name the states of other dials, inputs or code that lie about: this run begins without them."""
    folder = RESUME_DIR / label
    others = sorted(f.name for f in folder.iterdir() if f.name != key) if folder.is_dir() else []
    if others and not (folder / key).exists():
        print(
            f"{label}: begins anew; {folder}/{others[0]} is of other dials, inputs, code or machine settings",
            file=sys.stderr,
        )


def _keep_logs(resume_dir: Path, out: Path) -> None:
    """Copy a run's row logs beside its results: log.jsonl, or log-<rung>.jsonl where it trained several."""
    for log in sorted(resume_dir.rglob(LOG)):
        names = ["log", *log.parent.relative_to(resume_dir).parts]
        shutil.copyfile(log, out / f"{'-'.join(names)}.jsonl")


def _explain(error: OSError) -> str:
    """Name the path and the remedy of an operating-system error."""
    where = error.filename or "a file"
    if error.errno == errno.ENOSPC and error.strerror == os.strerror(errno.ENOSPC):
        free = shutil.disk_usage(".").free
        return f"{where}: the disk is full ({free:,} bytes free); free some space and run again"
    return f"{where}: {error.strerror or error}"


def _raise_terminated(signum: int, frame: object) -> None:
    """SIGTERM ends a stage through its finally blocks, with the shell's exit code for it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(128 + signum)


def _die_with_parent() -> None:
    """Kill this process when its parent is gone: a killed `dvc repro` must leave no orphan."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
