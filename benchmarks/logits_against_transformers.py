"""Do our logits agree with transformers', both ways, and do both read one GGUF file alike?

    .venv-peers/bin/python -m benchmarks.logits_against_transformers   (make bench-peers)

Random weights of standard deviation 0.08, so that a wrong rotation or a swapped matrix cannot hide: at the
usual 0.02 it moves a toy's logits by a few thousandths only. The last row is a real model, SmolLM2-135M from
the data registry (Q4_1 blocks, dequantized by both sides), on a text of its own training languages.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.result_file import write_result
from gpt.checkpoint.gguf import half_split, open_gguf
from gpt.checkpoint.hugging_face import read_weights
from gpt.checkpoint.llama_weights import save_llama
from gpt.checkpoint.save_load import load_tensors
from gpt.corpus.registry import SourceUnavailable, fetch
from gpt.model.transformer import Transformer

SEED, STD, N_TOKENS, N_GREEDY = 0, 0.08, 64, 20
SIZES = {"vocab_size": 320, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6}
TEXT = (
    "The river rose in the night, and by the morning of 3 March 1891 it had taken the lower bridge. "
    "Nobody in the town could say who had opened the sluice, nor why the miller's boy was gone."
)


def foreign_models() -> dict[str, nn.Module]:
    """Make transformers' models, by name."""
    gqa: dict[str, Any] = SIZES | {
        "intermediate_size": 160,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    gpt2 = transformers.GPT2Config(vocab_size=320, n_positions=128, n_embd=96, n_layer=3, n_head=6)
    mixtral = transformers.MixtralConfig(
        **gqa, num_local_experts=4, num_experts_per_tok=2, sliding_window=None
    )
    return {
        "gpt2": transformers.GPT2LMHeadModel(gpt2),
        "llama, 6 heads on 2": transformers.LlamaForCausalLM(transformers.LlamaConfig(**gqa)),
        "llama, tied": transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**gqa, tie_word_embeddings=True, rope_theta=1e5)
        ),
        "mixtral, 2 of 4 experts": transformers.MixtralForCausalLM(mixtral),
    }


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Draw every parameter anew; those of norms stand around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "norm" in name or ".ln_" in name
            centre = 1.0 if is_gain and name.endswith("weight") else 0.0
            parameter.copy_(centre + STD * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def draw_ids(vocab_size: int, seed: int) -> Tensor:
    """Return token ids (2, T)."""
    return torch.randint(vocab_size, (2, N_TOKENS), generator=torch.Generator().manual_seed(seed))


def read_by_us(folder: Path) -> Transformer:
    """Open a Hugging Face folder that has no tokenizer."""
    config, tensors = read_weights(folder)
    model = Transformer(config)
    load_tensors(model, tensors)
    return model.eval()


def turn_the_other_way(model: Transformer) -> Transformer:
    """Put the rows of q and k in an order that the file does not have: what a wrong rotation costs."""
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            parameter.data = half_split(parameter.data, model.config.head_dim)
    return model


def difference(ours: Transformer, theirs: nn.Module, ids: Tensor) -> dict[str, float]:
    """Return the largest difference of two models' logits, and the largest logit for scale."""
    with torch.inference_mode():
        a, b = ours(ids), theirs(ids).logits
    return {"max_abs_difference": (a - b).abs().max().item(), "max_abs_logit": b.abs().max().item()}


def compare_random(name: str, theirs: nn.Module, folder: Path) -> list[dict[str, Any]]:
    """Compare a random model: their file read by us and, where we write the format, our file by them."""
    randomize(theirs, SEED)
    ids = draw_ids(SIZES["vocab_size"], SEED)
    theirs.save_pretrained(folder / "theirs")
    ours = read_by_us(folder / "theirs")
    rows = [{"model": name, "file": "theirs, read by us", **difference(ours, theirs, ids)}]
    if ours.config.position == "rope":
        wrong = turn_the_other_way(read_by_us(folder / "theirs"))
        rows.append(
            {"model": name, "file": "control: q, k rows in GGUF's order", **difference(wrong, theirs, ids)}
        )
        save_llama(folder / "ours", ours)
        again = transformers.AutoModelForCausalLM.from_pretrained(folder / "ours", dtype=torch.float32).eval()
        rows.append({"model": name, "file": "ours, read by them", **difference(ours, again, ids)})
    return rows


def compare_gguf(path: Path) -> dict[str, Any]:
    """Compare a real GGUF file: ids of a text, logits of every position, and greedy tokens."""
    foreign = open_gguf(path)
    ours = foreign.load()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    ids = foreign.tokenizer.encode(TEXT)
    prompt = torch.tensor([ids])
    row = {"model": "smollm2-135m", "file": "GGUF, read by both", **difference(ours, theirs, prompt)}
    row["n_tokens"] = len(ids)
    row["same_token_ids"] = ids == tokenizer(TEXT)["input_ids"]
    row["same_greedy_tokens"] = greedy(ours, prompt) == greedy(theirs, prompt)
    return row


def greedy(model: nn.Module, ids: Tensor) -> list[int]:
    """Return the likeliest continuation, N_GREEDY tokens, without a cache."""
    with torch.inference_mode():
        for _ in range(N_GREEDY):
            out = model(ids)
            logits = out if isinstance(out, Tensor) else out.logits
            ids = torch.cat((ids, logits[:, -1:].argmax(-1)), dim=1)
    return ids[0, -N_GREEDY:].tolist()


def main() -> None:
    """Compare all models and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    rows = []
    for name, theirs in foreign_models().items():
        with tempfile.TemporaryDirectory() as folder:
            rows += compare_random(name, theirs, Path(folder))
    try:
        rows.append(compare_gguf(fetch("smollm2-135m").resolve()))
    except SourceUnavailable as error:
        rows.append({"model": "smollm2-135m", "skipped": str(error)})
    write_result(
        "logits_against_transformers",
        {
            "question": "max |our logits - transformers' logits|, fp32, both ways",
            "transformers": transformers.__version__,
            "seed": SEED,
            "weights_std": STD,
            "n_sequences": 2,
            "n_tokens": N_TOKENS,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
