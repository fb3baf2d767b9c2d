"""evaluate: every model on the same held-out windows, logs and questions.

The base of finetune is one of them; one from outside this pipeline is measured as `base`.
"""

from gpt.catalog.open_model import open_model
from gpt.dataset.shard_set import open_shards
from gpt.evaluate.compare import evaluate_model, evaluate_product, headline, prepare, score_rows
from gpt.evaluate.config import EvaluateConfig
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.machine import prepare_machine
from stages.outputs import write_json
from stages.runner import StageRun, stage

ALIGNED = ("align_dpo", "align_ppo", "align_grpo")
MODELS = ("pretrain", "scale_dense", "scale_moe", "finetune", *ALIGNED, "quantize")
BASES = ("pretrain", "scale_dense", "scale_moe")
"""Models that never saw the chat template."""
PRODUCT = tuple(name for name in MODELS if not name.startswith("scale"))
"""The road from the base to what is shipped: measured on intents and canaries too."""


@stage(config=EvaluateConfig, inputs=(*MODELS, "base", "shards", "logs", "files"))
def evaluate(config: EvaluateConfig, run: StageRun) -> dict[str, float]:
    """Measure the models one after the other; scores.json holds every figure with its n."""
    device = prepare_machine(run.machine)
    tokenizer = load_tokenizer(run.inputs["pretrain"])
    val = open_shards(run.inputs["shards"], "val", tokenizer.fingerprint)
    benchmark = prepare(config, tokenizer, val, run.inputs["logs"], run.inputs["files"])
    models = {name: run.inputs[name] for name in MODELS}
    base = next((name for name, path in models.items() if path == run.inputs["base"]), "base")
    models = {base: run.inputs["base"]} | models
    rows = []
    for step, (name, path) in enumerate(models.items()):
        opened = open_model(str(path), device=str(device))
        if opened.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"--{name} {path}: its tokenizer {opened.tokenizer.fingerprint} is not pretrain's "
                f"{tokenizer.fingerprint}; run `dvc repro` so that all are of one make (with a GGUF file as "
                "finetune.base: tokenize.kind gguf, as in conf/smollm2.yaml)"
            )
        scores = evaluate_model(opened.model, benchmark)
        if name == base or name in PRODUCT:
            scores += evaluate_product(opened.model, benchmark, as_chat=name not in BASES)
        rows += score_rows(name.replace("_", "-"), scores)
        values = {score.metric: score.value for score in scores if score.value is not None}
        run.sink.log(step, {f"{name}.{metric}": value for metric, value in values.items()})
        print(f"evaluate: {name} " + ", ".join(f"{m} {v:.4g}" for m, v in values.items()))
    write_json(run.out / "scores.json", rows)
    return headline(rows, base.replace("_", "-"))


if __name__ == "__main__":
    raise SystemExit(evaluate.main())
