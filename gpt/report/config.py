"""The dials of the report and of its comparison of quantized models. Standard library only."""

from dataclasses import dataclass

from gpt.quantize.config import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What the models are asked, which heads are drawn, what an hour costs."""

    text_prompts: tuple[str, ...]
    """Beginnings of texts, continued as they stand by every model."""
    chat_prompts: tuple[str, ...]
    """Questions put to the base, the tuned and the aligned models side by side: a user's turn of the chat
    template for those that know it, plain text for the base."""
    sample_tokens: int
    """Most tokens of one answer; the context may end it sooner."""
    temperature: float
    """Of the samples; 0 takes the likeliest token."""
    seed: int
    """Of the samples: each begins from it, so that models differ by their weights alone."""
    heatmap_text: str
    """Text whose attention is drawn, as far as it fits."""
    heatmap_heads: int
    """Heads drawn, evenly spread over all layers' heads."""
    dollars_per_hour: float
    """Price of the machine; 0 for one's own."""

    def __post_init__(self) -> None:
        for name in ("text_prompts", "chat_prompts"):
            if not all(getattr(self, name)):
                raise ValueError(f"{name}: an empty prompt asks for nothing; write some text or drop it")
        if not self.text_prompts:
            raise ValueError('text_prompts: at least one is needed, such as "ROMEO:"')
        if not self.heatmap_text:
            raise ValueError("heatmap_text: it is empty; write a sentence")
        for name in ("sample_tokens", "heatmap_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        for name in ("temperature", "dollars_per_hour"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: 0 or more is needed, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeReportConfig:
    """How much the methods of quantization are compared by; every figure states its own n."""

    methods: tuple[Method, ...]
    """Beside the float model; each is made under the dials that the quantized checkpoint keeps."""
    n_windows: int
    """Windows of held-out corpus text, evenly spread; 0 is all of them."""
    seq_len: int
    """Tokens that a window predicts."""
    n_hellaswag: int
    """HellaSwag items, evenly spread over the file; 0 leaves the task out."""
    batch_tokens: int
    """Tokens of one forward pass, padding included."""
    prompt_tokens: int
    """Tokens in the cache before decoding is timed."""
    decode_tokens: int
    """Tokens decoded one after the other in a round, each timed."""
    rounds: int
    """Rounds of the timing; in each the methods take turns."""

    def __post_init__(self) -> None:
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods: each once and at least one is needed, got {list(self.methods)}")
        for name in ("seq_len", "batch_tokens", "prompt_tokens", "decode_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        for name in ("n_windows", "n_hellaswag"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: 0 or more is needed, got {getattr(self, name)}")
