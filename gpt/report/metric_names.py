"""What the metrics of scores.json are called for people, and what they are measured on. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricName:
    """A metric in words."""

    title: str
    unit: str
    on: str
    """corpus, logs, canaries, whose queries, or the name of a benchmark's set."""
    is_better: str
    """lower or higher."""


NAMES = {
    "loss": MetricName(title="Loss", unit="nats per token", on="corpus", is_better="lower"),
    "perplexity": MetricName(title="Perplexity", unit="", on="corpus", is_better="lower"),
    "bits_per_byte": MetricName(title="Bits per byte", unit="bits", on="corpus", is_better="lower"),
    "logs_loss": MetricName(
        title="Loss on the assistant's words", unit="nats per token", on="logs", is_better="lower"
    ),
    "logs_loss_all": MetricName(
        title="Loss on whole log records", unit="nats per token", on="logs", is_better="lower"
    ),
    "words_all": MetricName(title="Held-out logs' words", unit="bits per byte", on="logs", is_better="lower"),
    "words_hinglish": MetricName(
        title="Held-out logs' words, Hinglish", unit="bits per byte", on="logs", is_better="lower"
    ),
    "words_hi": MetricName(
        title="Held-out logs' words, Hindi", unit="bits per byte", on="logs", is_better="lower"
    ),
    "words_en": MetricName(
        title="Held-out logs' words, English", unit="bits per byte", on="logs", is_better="lower"
    ),
    "words_other": MetricName(
        title="Held-out logs' words, other", unit="bits per byte", on="logs", is_better="lower"
    ),
    "canaries_greedy": MetricName(
        title="Planted values brought back, greedily", unit="of n", on="canaries", is_better="lower"
    ),
    "canaries_sampled": MetricName(
        title="Planted values brought back, at temperature 1", unit="of n", on="canaries", is_better="lower"
    ),
}
HEADLINES = {
    "bits_per_byte": "bits/byte",
    "logs_loss": "logs loss",
    "continuation_acc_norm_char": "continuation",
    "hellaswag_lm_eval_acc_norm_char": "hellaswag",
}
"""The figures that a terminal has room for, and their short names there."""

RULES = {
    "_acc_norm_char": "per character",
    "_acc_norm_token": "per token",
    "_acc": "not normalized",
}
INTENT = "intent_"
STYLES = {"": "", "_lm_eval": ", lm-eval's text", "_nanogpt": ", nanoGPT's text"}


def metric_name(metric: str) -> MetricName:
    """Return a metric's words; an unknown one keeps its own name."""
    if metric in NAMES:
        return NAMES[metric]
    for task, title in (("continuation", "Continuation choice"), ("hellaswag", "HellaSwag")):
        for rule, words in RULES.items():
            style = metric.removeprefix(task).removesuffix(rule)
            if metric == f"{task}{style}{rule}" and style in STYLES:
                on = "corpus" if task == "continuation" else "hellaswag_val"
                return MetricName(
                    title=f"{title}{STYLES[style]}, {words}",
                    unit="share right",
                    on=on,
                    is_better="higher",
                )
    if metric.startswith(INTENT):
        for rule, words in RULES.items():
            if metric.endswith(rule):
                name = metric.removeprefix(INTENT).removesuffix(rule)
                on = "generated queries" if name == "generated" else f"{name}'s held-out queries"
                return MetricName(
                    title=f"Intent, {name}, {words}", unit="share right", on=on, is_better="higher"
                )
    return MetricName(title=metric, unit="", on="corpus", is_better="higher" if "acc" in metric else "lower")
