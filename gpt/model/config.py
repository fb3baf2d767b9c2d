"""The dials of the transformer. Standard library only, so that a DVC dep on them stays cheap."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of one transformer."""

    vocab_size: int
    """V: number of token ids, special tokens included."""
    max_seq_len: int
    """Longest sequence in tokens."""
    dim: int
    """C: width of the residual stream."""
    n_layers: int
    """L: number of blocks."""
    n_heads: int
    """H: query heads."""
    n_kv_heads: int
    """G: key and value heads; n_heads is MHA, 1 is MQA, between them GQA."""
    ffn_dim: int
    """F: hidden width of the feed-forward (of one expert, for a mixture)."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1.0e-5
    norm_gain: bool = True
    """Learned gains on every norm; false leaves the scaling to the matrices behind it."""
    activation: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """gelu is the tanh approximation of GPT-2; relu2 is squared ReLU."""
    position: Literal["rope", "learned"] = "rope"
    rope_theta: float = 10000.0
    bias: bool = False
    """Biases on every linear layer and LayerNorm, as in GPT-2."""
    qk_norm: bool = False
    """RMSNorm on each query and key head before the rotation."""
    tie_embeddings: bool = True
    """Share the embedding with the output projection."""
    dropout: float = 0.0
    logit_softcap: float = 0.0
    """c in c * tanh(logits / c); 0 turns it off."""
    token_shift: bool = False
    """Each block's two inputs are mixed with the previous token's, by a learned share per channel."""
    value_residual: bool = False
    """Values of later blocks are mixed with the first block's, by a learned share per block."""
    bigram_rows: int = 0
    """Rows of a table that adds an embedding of (previous token, token); pairs share rows when there
    are fewer than vocab_size squared. 0 turns it off."""
    n_experts: int = 0
    """E: experts of each feed-forward; 0 is dense."""
    n_experts_per_token: int = 2
    """K: experts that each token visits."""
    attention_backend: Literal["sdpa", "reference", "flash"] = "sdpa"
    """flash is our FlashAttention-2 in Triton: a CUDA device, or TRITON_INTERPRET=1."""
    fused_kernels: tuple[Literal["norm", "rope", "swiglu"], ...] = ()
    """What our Triton kernels do in one pass each (gpt/kernels/fused_kernels.py); needs what flash needs."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "max_seq_len",
            "dim",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "ffn_dim",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        if self.dim % self.n_heads:
            raise ValueError(f"n_heads: {self.n_heads} does not divide dim {self.dim}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads: {self.n_kv_heads} does not divide n_heads {self.n_heads}")
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(f"n_heads: rope needs an even head dim, dim / n_heads is {self.head_dim}")
        for name, dial, needed in (
            ("norm", "norm", "rmsnorm"),
            ("rope", "position", "rope"),
            ("swiglu", "activation", "swiglu"),
        ):
            if name in self.fused_kernels and getattr(self, dial) != needed:
                raise ValueError(
                    f"fused_kernels: {name} needs {dial}: {needed}, got {getattr(self, dial)!r}; leave it out"
                )
        if self.bigram_rows < 0:
            raise ValueError(f"bigram_rows: must not be negative, got {self.bigram_rows}")
        if not self.norm_gain and self.bias:
            raise ValueError("norm_gain: a norm without gains has no bias; set bias: false")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: 0 <= dropout < 1 is needed, got {self.dropout}")
        if self.n_experts and not 1 <= self.n_experts_per_token <= self.n_experts:
            raise ValueError(
                f"n_experts_per_token: 1..{self.n_experts} is needed, got {self.n_experts_per_token}"
            )

    @property
    def head_dim(self) -> int:
        """D: width of one head."""
        return self.dim // self.n_heads
