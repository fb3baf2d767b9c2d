"""Architectures by name. The names tell the truth: a test counts every one of them."""

from gpt.model.config import ModelConfig


def _gpt2(*, dim: int, n_layers: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50257,
        max_seq_len=1024,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        ffn_dim=4 * dim,
        norm="layernorm",
        activation="gelu",
        position="learned",
        bias=True,
    )


def _s4(*, dim: int, n_layers: int, n_heads: int, ffn_dim: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=16384,
        max_seq_len=1024,
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        ffn_dim=ffn_dim,
        qk_norm=True,
    )


PRESETS: dict[str, ModelConfig] = {
    "gpt2-124m": _gpt2(dim=768, n_layers=12, n_heads=12),
    "gpt2-350m": _gpt2(dim=1024, n_layers=24, n_heads=16),
    "s4-tiny": _s4(dim=320, n_layers=4, n_heads=5, ffn_dim=864),
    "s4-small": _s4(dim=512, n_layers=5, n_heads=8, ffn_dim=1536),
    "s4-medium": _s4(dim=768, n_layers=10, n_heads=12, ffn_dim=1920),
    "s4-large": _s4(dim=1152, n_layers=22, n_heads=18, ffn_dim=2720),
}


def preset(name: str) -> ModelConfig:
    """Return an architecture by name; raises ValueError that lists the names."""
    if name not in PRESETS:
        raise ValueError(f"preset: got {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
