"""quantize: a model in fewer bits, and what it costs in perplexity on held-out text."""

from gpt.checkpoint.save_load import load_model, open_checkpoint
from gpt.config import to_dict
from gpt.evaluate.perplexity import perplexity_on
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.load import load_quantized
from gpt.quantize.methods import quantize_model, quantize_nearest
from gpt.quantize.save import save_quantized, size_metrics
from stages.machine import prepare_machine
from stages.outputs import write_json
from stages.runner import StageRun, stage
from stages.sequences import draw_mix


@stage(config=QuantizeConfig, inputs=("checkpoint", "logs", "shards"))
def quantize(config: QuantizeConfig, run: StageRun) -> dict[str, float]:
    """Quantize, save, and measure the model as it reads back."""
    device = prepare_machine(run.machine)
    parent = open_checkpoint(run.inputs["checkpoint"])
    calibration = draw_mix(config, run, "train", config.n_calibration).to(device)
    test = draw_mix(config, run, "val", config.n_test)
    model, nearest = load_model(parent).to(device), load_model(parent).to(device)
    before = perplexity_on(model, test)
    layers = quantize_model(model, calibration, config)
    save_quantized(run.out / "checkpoint", model, parent, config, stage=run.name)
    write_json(run.out / "layers.json", [to_dict(layer) for layer in layers])
    child = open_checkpoint(run.out / "checkpoint")
    after = perplexity_on(load_quantized(child).to(device), test)
    quantize_nearest(nearest, config)
    rounded = perplexity_on(nearest, test)
    return {
        **size_metrics(parent, child),
        "perplexity_before": round(before, 4),
        "perplexity_after": round(after, 4),
        "perplexity_increase": round(after / before - 1, 5),
        "perplexity_increase_nearest": round(rounded / before - 1, 5),
        "test_tokens": test.numel() - len(test),
    }


if __name__ == "__main__":
    raise SystemExit(quantize.main())
