"""What does each method of quantization cost in quality, and what does it save?

    RAWGPT_DATA_MIRROR=... python -m benchmarks.quantization [--peer-python VENV/bin/python] [--table]

Perplexity rise over the float model, paired over held-out windows, with its standard error; HellaSwag items;
bytes on disk; memory of a fresh process that opened the file (resident set, after against before, and the
storages of the model); milliseconds a token at batch 1 as `rawgpt sample` computes it, the methods in turns.

smollm2-135m: the float baseline is the dequantized Q4_1 file, whose weights lie on a 4-bit grid of groups of
32 already: a symmetric grid of groups of 64 (576 columns do not divide by 128) does not contain it.
Calibrated on `books_a`, measured on `novels` (other books); dials were picked on `openstax`. A second model,
trained here, is measured on the validation shard and calibrated on the training shards, at the largest
group that divides its columns. Beside them GPTQModel, where --peer-python has it, on the same calibration
tokens (GPTQMODEL_CPU_WORKERS=2; it reads the weights in fp16) with its defaults and with dials like ours,
its codes measured in our model; that is a result of its own (--methods gptq nearest --items 0 is enough).
About 8 minutes on two quiet cores without the peer, 8 more with it (estimated from a smaller run);
--calibration 16 --windows 12 --items 0 --decode 6 takes 3.
"""

import argparse
import bz2
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.quantization_table import render
from benchmarks.result_file import RESULTS, write_result
from gpt.catalog.open_model import OpenModel, open_model
from gpt.checkpoint.llama_weights import family_of
from gpt.checkpoint.safetensors import read_safetensors
from gpt.checkpoint.save_load import model_tensors, open_checkpoint, save_checkpoint
from gpt.dataset.shard_set import open_shards
from gpt.evaluate.hellaswag import hellaswag_item, read_hellaswag
from gpt.evaluate.perplexity import token_bytes
from gpt.export.hugging_face import export_hugging_face
from gpt.model.transformer import Transformer
from gpt.quantize.calibrate import draw_sequences
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.layers import quantizable
from gpt.report.method_comparison import FLOAT, make_models, method_rows, ready_to_run
from gpt.report.method_scores import Material, decode_times, read_material, score
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer

METHODS = ("gptq", "awq", "nearest", "nf4", "int8", "int8_dynamic")
SMOLLM2 = "smollm2-135m"
GROUPS = (128, 64, 32)
PEER_DIALS = ("defaults", "like-ours")
CHARS_A_TOKEN = 8
"""More than a token has, so that a cut of text is long enough."""
DIALS = QuantizeConfig(
    method="gptq",
    group_size=64,
    scale="mse",
    act_order=True,
    damping=0.01,
    n_calibration=64,
    seq_len=256,
    log_fraction=0.0,
    n_test=1,
    seed=1,
)


def cut_text(name: str, tokenizer: Tokenizer, n: int, length: int, seed: int) -> list[list[int]]:
    """Return n pieces of `length` tokens at random places of a set of books in the mirror."""
    path = Path(os.environ.get("RAWGPT_DATA_MIRROR", "")) / "english" / f"{name}.jsonl.bz2"
    if not path.is_file():
        raise ValueError(f"RAWGPT_DATA_MIRROR: {path} is not there; point it at the data mirror")
    with bz2.open(path, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    generator = np.random.default_rng(seed)
    pieces: list[list[int]] = []
    while len(pieces) < n:
        text = texts[generator.integers(len(texts))]
        if len(text) > CHARS_A_TOKEN * length:
            start = generator.integers(len(text) - CHARS_A_TOKEN * length)
            ids = tokenizer.encode(text[start : start + CHARS_A_TOKEN * length])[1 : length + 1]
            pieces += [ids] if len(ids) == length else []
    return pieces


def texts_of(opened: OpenModel, arguments: argparse.Namespace) -> tuple[Tensor, list[np.ndarray], str]:
    """Return calibration tokens (n, T), held-out windows of T + 1, and what they are of."""
    n, length, tokenizer = arguments.calibration, DIALS.seq_len, opened.tokenizer
    if opened.name == SMOLLM2:
        calibration = cut_text("books_a", tokenizer, n, length, seed=1)
        windows = cut_text("novels", tokenizer, arguments.windows, length + 1, seed=2)
        return torch.tensor(calibration), [np.array(w) for w in windows], "novels; calibrated on books_a"
    tokens = {s: open_shards(arguments.shards, s, tokenizer.fingerprint) for s in ("train", "val")}
    generator = torch.Generator().manual_seed(1)
    drawn = draw_sequences([(tokens["train"], n)], length, generator)
    held_out = draw_sequences([(tokens["val"], arguments.windows)], length + 1, generator)
    return drawn, list(held_out.numpy()), "validation shard; calibrated on training shards"


def largest_group(model: Transformer) -> int:
    """Return the largest of GROUPS that divides every linear's inputs."""
    sizes = [model.get_submodule(name).in_features for name in quantizable(model)]
    return next(g for g in GROUPS if not any(int(n) % g for n in sizes))  # type: ignore[arg-type]


def resident_bytes() -> int:
    """Return this process's resident set after everything free went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def measure_memory(folder: Path) -> int:
    """Open a checkpoint in a fresh process; return by how much its resident set grew, logits made once."""
    command = [sys.executable, "-m", "benchmarks.quantization", "--open", str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def open_and_print(folder: Path) -> None:
    """The fresh process: everything that a model needs is warm before the first reading."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        (torch.randn(64, 64) @ torch.randn(64, 64)).sum().item()
        before = resident_bytes()
        model = open_model(str(folder)).model
        model(torch.tensor([[1, 2, 3]]))
        print(resident_bytes() - before)
        assert model is not None


def run_peer(
    python: str, folder: Path, model: Transformer, tokenizer: Tokenizer, calibration: Tensor
) -> None:
    """Let GPTQModel quantize the same model on the same tokens into <folder>/<dials>."""
    export_hugging_face(folder / "model", model, tokenizer, "fp16")
    (folder / "calibration.json").write_text(json.dumps(calibration.tolist()))
    environment = os.environ | {"GPTQMODEL_CPU_WORKERS": "2", "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("gptqmodel_peer.py")
    for dials in PEER_DIALS:
        command = [python, str(script), str(folder), str(largest_group(model)), dials]
        subprocess.run(command, check=True, env=environment)


def with_peer_weights(model: Transformer, file: Path) -> Transformer:
    """Put GPTQModel's dequantized weights into a float model, in place; its file stores zero - 1."""
    tensors, names = read_safetensors(file), family_of(model.config).names
    for name in quantizable(model):
        theirs = names.theirs(f"{name}.weight").removesuffix(".weight")
        parts = ("qweight", "qzeros", "scales", "g_idx")
        words, zeros, scales, groups = (tensors[f"{theirs}.{part}"] for part in parts)
        shifts = 4 * torch.arange(8)
        codes = ((words.long()[:, None, :] >> shifts[None, :, None]) & 15).flatten(0, 1)  # (in, out)
        zero = ((zeros.long()[:, :, None] >> shifts) & 15).flatten(1) + 1  # (groups, out)
        of = groups.long()
        values = (codes - zero[of]).float() * scales.float()[of]  # (in, out)
        linear = model.get_submodule(name)
        linear.weight.data = values.T.contiguous()
    return model


def measure(reference: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return one model's rows."""
    opened = open_model(reference)
    calibration, windows, text = texts_of(opened, arguments)
    path = Path(os.environ.get("RAWGPT_DATA_MIRROR", "")) / "eval/hellaswag_val.jsonl.bz2"
    records = read_hellaswag(path, arguments.items) if arguments.items and opened.name == SMOLLM2 else []
    material = Material(
        windows=windows,
        bytes_of=token_bytes(opened.tokenizer),
        items=[hellaswag_item(record, "lm_eval") for record in records],
        tokenizer=opened.tokenizer,
        batch_tokens=2048,
    )
    group = largest_group(opened.model)
    dials = replace(DIALS, group_size=group, n_calibration=arguments.calibration)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tokenizer(folder / "tokenizer", opened.tokenizer)
        save_checkpoint(
            folder / "parent",
            model_tensors(opened.model),
            opened.model.config,
            stage="benchmark",
            tokenizer_dir=folder / "tokenizer",
            tokenizer_fingerprint=opened.tokenizer.fingerprint,
            config_fingerprint="0" * 16,
        )
        parent = open_checkpoint(folder / "parent")
        started = time.process_time()
        made = make_models(parent, arguments.methods, dials, calibration, folder, torch.device("cpu"))
        seconds = time.process_time() - started
        rows = method_rows(*made, material)
        models, folders, _ = made
        computed_by = ready_to_run(models)
        times = decode_times(models, calibration[0, :64].tolist(), arguments.decode, 3)
        for row in rows:
            method = row["method"]
            row |= {"ms_per_token": times[method], "resident_bytes": measure_memory(folders[method])}
        if arguments.peer_python:
            run_peer(arguments.peer_python, folder, opened.model, opened.tokenizer, calibration)
            base = read_material(models[FLOAT], material)
            for name in PEER_DIALS:
                peer = with_peer_weights(open_model(reference).model, folder / name / "model.safetensors")
                reading = read_material(peer, material)
                row = {"method": f"GPTQModel, {name}", "bits": 4, **score(reading, base, material)}
                rows.append(row)
    rise = {row["method"]: row["rise"] for row in rows if "rise" in row}
    return {
        "model": opened.name,
        "group_size": group,
        "text": text,
        "calibration_tokens": calibration.numel(),
        "making_cpu_s": round(seconds, 1),
        "computed_by": computed_by,
        "gptq_over_nearest": round(rise["gptq"] / rise["nearest"], 4),
        "rows": [{k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows],
    }


def main() -> None:
    """Measure every reference, or print the chapter's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[SMOLLM2, "models/scale-dense/checkpoint"])
    parser.add_argument(
        "--shards", type=Path, default=Path("data/shard/shards"), help="of the model made here"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--calibration", type=int, default=64, help="sequences of 256 tokens")
    parser.add_argument("--windows", type=int, default=48, help="held-out windows of 256 predicted tokens")
    parser.add_argument("--items", type=int, default=60, help="HellaSwag items")
    parser.add_argument("--decode", type=int, default=12, help="tokens a round of the timing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", help="an environment with GPTQModel 7.7")
    parser.add_argument("--table", action="store_true", help="print the tables of the result that is there")
    parser.add_argument("--open", type=Path, help="for its own processes")
    arguments = parser.parse_args()
    if arguments.open:
        open_and_print(arguments.open)
    elif arguments.table:
        print(render(json.loads((RESULTS / "quantization.json").read_text(encoding="utf-8"))))
    else:
        if not {"gptq", "nearest"} <= set(arguments.methods):
            parser.error("--methods: gptq and nearest are what is compared")
        torch.set_num_threads(arguments.threads)
        rows = [measure(reference, arguments) for reference in arguments.models]
        result = {"question": __doc__.splitlines()[0], "dials": dials_of(), "models": rows}
        write_result("quantization", result, suffix="_against_gptqmodel" if arguments.peer_python else "")


def dials_of() -> dict[str, Any]:
    """Return the dials that the methods share."""
    return {"scale": DIALS.scale, "act_order": DIALS.act_order, "damping": DIALS.damping, "seed": DIALS.seed}


if __name__ == "__main__":
    main()
