"""Is fine-tuning SmolLM2-135M with LoRA and QLoRA as fast and as small here as with peft?

    RAWGPT_DATA_MIRROR=... dvc repro logs
    python -m benchmarks.lora_against_peft --peers-python .venv-peers/bin/python        (make bench-peers)

The same fp32 weights, adapters and batches (real Hinglish chats of data/logs, prompt-masked, packed to T
tokens) are handed by files to two processes on the same number of threads: ours, and transformers with peft
(and bitsandbytes for QLoRA: NF4, double quantization, fp32 compute, no gradient checkpointing on either
side). They take turns step by step; the first step of each is not counted. A step is forward, backward,
clipping at 1 and AdamW. Memory is the high-water mark of each process's resident set over the steps, after
loading, and over all. About 4 minutes on two quiet cores; `--steps 3` takes two.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.result_file import write_result

LR, SEED, RANK, ALPHA = 1.0e-3, 1, 8, 16.0
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
IGNORE = -100
WAYS = {"lora": "fp32", "qlora": "nf4"}
"""What is measured -> how the base lies in memory."""


class Model(Protocol):
    """One side: what a step needs of it."""

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean nats of the targets (B, T) that count."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return what learns."""

    def bytes_of_base(self) -> int:
        """Return the bytes of everything that does not learn."""


class Ours:
    """SmolLM2 in this repository, as the stage finetune trains it."""

    def __init__(self, folder: Path, way: str) -> None:
        from gpt.adapters.frozen import pack_base
        from gpt.adapters.lora import inject_lora, load_lora
        from gpt.adapters.peft_format import read_peft
        from gpt.checkpoint.hugging_face import read_weights
        from gpt.checkpoint.save_load import load_tensors
        from gpt.model.transformer import Transformer

        config, tensors = read_weights(folder / "base")
        self.model = Transformer(config)
        load_tensors(self.model, tensors)
        del tensors
        pack_base(self.model, WAYS[way])  # type: ignore[arg-type]
        lora, adapter = read_peft(folder / "adapter", config)
        inject_lora(self.model, lora, SEED)
        load_lora(self.model, adapter)
        self.model.train()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean nats of the targets (B, T) that count."""
        from gpt.finetune.counted import counted_next_token

        return counted_next_token(self.model, (ids, targets), head_loss="chunked")[0]

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the adapters."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def bytes_of_base(self) -> int:
        """Return the bytes of everything that does not learn."""
        return frozen_bytes(self.model)


class Peft:
    """The same in transformers and peft."""

    def __init__(self, folder: Path, way: str) -> None:
        import peft
        import transformers

        more: dict[str, Any] = {}
        if way == "qlora":
            more["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            )
        base = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "base", dtype=torch.float32, attn_implementation="sdpa", use_cache=False, **more
        )
        self.model = peft.PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
        self.model.train()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean nats of the targets (B, T) that count; the last column must not."""
        labels = torch.nn.functional.pad(targets[:, :-1], (1, 0), value=IGNORE)  # they shift by themselves
        return self.model(input_ids=ids, labels=labels).loss

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the adapters."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def bytes_of_base(self) -> int:
        """Return the bytes of everything that does not learn."""
        return frozen_bytes(self.model)


def frozen_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of frozen parameters and buffers; bitsandbytes' scales lie in neither and are
    small."""
    tensors = [*(p for p in model.parameters() if not p.requires_grad), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in {t.data_ptr(): t for t in tensors}.values())


SIDES: dict[str, type[Ours] | type[Peft]] = {"ours": Ours, "peft": Peft}


def high_water_mib() -> float:
    """Return the largest resident memory of this process since the mark was cleared."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**10


def work(side: str, folder: Path, way: str, threads: int) -> None:
    """Load, then take one step for each line on stdin and answer with its loss and seconds."""
    from gpt.checkpoint.safetensors import read_safetensors

    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    model: Model = SIDES[side](folder, way)
    batches = read_safetensors(folder / "batches.safetensors")
    learning = model.parameters()
    optimizer = torch.optim.AdamW(learning, lr=LR, weight_decay=0.0, fused=True)
    loading = high_water_mib()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark begins anew here
    answer(n_learning=sum(p.numel() for p in learning), loading_mib=loading, base=model.bytes_of_base())
    for line in sys.stdin:
        ids, targets = batches["ids"][int(line)], batches["targets"][int(line)]
        started, cpu = time.perf_counter(), time.process_time()
        loss = model.loss(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        answer(loss=loss.item(), s=seconds, cpu_s=cpu_s)
    answer(peak_mib=high_water_mib())


def answer(**values: float) -> None:
    """Send one line to whoever drives; libraries may print lines of their own."""
    print("@" + json.dumps(values), flush=True)


class Worker:
    """One side's process."""

    def __init__(self, python: str, side: str, folder: Path, way: str, threads: int) -> None:
        command = [python, "-m", "benchmarks.lora_against_peft", "--work", side, str(folder), way]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self.read()

    def read(self) -> dict[str, float]:
        """Return the next answer; raises ValueError when the process died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise ValueError(f"a worker ended with exit code {self.process.wait()}; see its error above")

    def step(self, batch: int) -> dict[str, float]:
        """Take one step."""
        assert self.process.stdin is not None
        print(batch, file=self.process.stdin, flush=True)
        return self.read()

    def end(self) -> float:
        """Let it finish; return its peak in MiB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        peak = self.read()["peak_mib"]
        self.process.wait()
        return peak


def write_files(folder: Path, logs: Path, steps: int, size: int, seq_len: int) -> dict[str, float]:
    """Write base, adapter and batches; return what the batches are made of."""
    from gpt.adapters.config import LoraConfig
    from gpt.adapters.lora import inject_lora, lora_tensors
    from gpt.adapters.peft_format import save_peft
    from gpt.catalog.open_model import open_model
    from gpt.checkpoint.llama_weights import save_llama
    from gpt.checkpoint.safetensors import write_safetensors
    from gpt.dataset.loader import PackedSequences
    from gpt.dataset.packing import pack_sequences
    from gpt.finetune.sft import read_records
    from gpt.tokenizer.chat_template import encode_chat

    opened = open_model("smollm2-135m")
    records = [
        record
        for record in read_records(logs)
        if record["kind"] == "chat" and not record["synthetic"] and record["language"] == "hinglish"
    ]
    samples = [encode_chat(opened.tokenizer, record["messages"]) for record in records[: 40 * steps * size]]
    rows, learned = pack_sequences(samples, seq_len + 1, opened.tokenizer.end_of_text)
    ids, targets = PackedSequences(rows, learned, SEED).batch(0, steps * size)
    targets[:, -1] = IGNORE  # transformers' own loss shifts inside the row and has no target for it
    shape = (steps, size, seq_len)
    batches = {"ids": ids.view(shape), "targets": targets.view(shape)}
    write_safetensors(folder / "batches.safetensors", batches)
    save_llama(folder / "base", opened.model)
    lora = LoraConfig(lora_rank=RANK, lora_alpha=ALPHA, targets=TARGETS, dropout=0.0)
    inject_lora(opened.model, lora, SEED)
    save_peft(folder / "adapter", lora_tensors(opened.model), lora, opened.model.config, base="base")
    return {"records": len(records), "counted_share": round(float((targets != IGNORE).float().mean()), 4)}


def compare(way: str, folder: Path, steps: int, threads: int, peers_python: str) -> dict[str, Any]:
    """Run both sides in turns over the same batches."""
    pythons = {"ours": sys.executable, "peft": peers_python}
    workers = {side: Worker(pythons[side], side, folder, way, threads) for side in SIDES}
    rows: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for step in range(steps):
        order = list(SIDES) if step % 2 else list(SIDES)[::-1]
        for side in order:
            rows[side].append(workers[side].step(step))
            print(f"{way} {step + 1}/{steps} {side}: {rows[side][-1]}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {}
    for side, worker in workers.items():
        times = [row["s"] for row in rows[side][1:]]
        result[side] = {
            "step_s": round(statistics.median(times), 3),
            "step_s_standard_error": round(statistics.stdev(times) / math.sqrt(len(times)), 3),
            "n": len(times),
            "step_cpu_s": round(statistics.median(row["cpu_s"] for row in rows[side][1:]), 3),
            "losses": [round(row["loss"], 6) for row in rows[side]],
            "trainable_parameters": int(worker.facts["n_learning"]),
            "frozen_mib": round(worker.facts["base"] / 2**20, 1),
            "peak_mib_of_loading": round(worker.facts["loading_mib"], 1),
            "peak_mib_of_steps": round(worker.end(), 1),
        }
    ours, theirs = result["ours"], result["peft"]
    result["time_ratio"] = round(ours["step_s"] / theirs["step_s"], 3)
    result["cpu_time_ratio"] = round(ours["step_cpu_s"] / theirs["step_cpu_s"], 3)
    result["memory_ratio_of_steps"] = round(ours["peak_mib_of_steps"] / theirs["peak_mib_of_steps"], 3)
    result["largest_loss_difference"] = max(
        abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True)
    )
    return result


def main() -> None:
    """Measure LoRA, then QLoRA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers-python", default=".venv-peers/bin/python", help="has transformers and peft")
    parser.add_argument("--logs", type=Path, default=Path("data/logs/files/train.jsonl"))
    parser.add_argument("--steps", type=int, default=8, help="of each side; the first is not counted")
    parser.add_argument("--size", type=int, default=4, help="sequences of a step")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--work", nargs=3, metavar=("SIDE", "FOLDER", "WAY"), help="for its own processes")
    arguments = parser.parse_args()
    if arguments.work:
        side, folder, way = arguments.work
        work(side, Path(folder), way, arguments.threads)
        return
    if arguments.steps < 3:
        parser.error(f"--steps: at least 3 are needed for a standard error, got {arguments.steps}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_of = write_files(folder, arguments.logs, arguments.steps, arguments.size, arguments.seq_len)
        rows = {
            way: compare(way, folder, arguments.steps, arguments.threads, arguments.peers_python)
            for way in arguments.ways
        }
    dials = {"lora_rank": RANK, "lora_alpha": ALPHA, "lr": LR, "seed": SEED, "threads": arguments.threads}
    batch = {"sequences": arguments.size, "seq_len": arguments.seq_len, **made_of}
    write_result("lora_against_peft", {"model": "smollm2-135m", **dials, "batch": batch, **rows})


if __name__ == "__main__":
    main()
