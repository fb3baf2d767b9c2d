"""An embedding out of a language model of ours: its mean hidden state, weighted, centred and whitened.

Tokens are weighted by a / (a + p(token)) (smooth inverse frequency; Arora, Liang, Ma 2017), p counted in the
passages. Means of passages and of questions lie apart, so each kind loses its own: the passages' mean, and
for questions that of single sentences of the passages, since no question is known when the index is made.
Then the passages' covariance is whitened, its eigenvalues raised by a share of their sum so that 240 passages
do not dictate 576 directions, and every vector has length one. The model never learned to retrieve.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpt.model.transformer import Transformer
from gpt.rag.chunk import sentences
from gpt.tokenizer.tokenizer import Tokenizer

SIF_A = 1.0e-3
SHRINK = 0.002
"""Share of the eigenvalues' sum that is added to each."""
MAX_SENTENCES = 200
"""Sentences whose mean stands for that of the questions."""


class HiddenStates:
    """Embeds with the first `layer` blocks of a model; fit it, or give it a file's tensors."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, layer: int | None = None) -> None:
        config = model.config
        assert layer is None or 1 <= layer <= config.n_layers, "a layer of the model"
        self.model, self.tokenizer = model, tokenizer
        self.layer = layer or max(1, round(config.n_layers * 0.27))
        """How many blocks are read: about a quarter, the best of those tried on SmolLM2-135M."""
        self.token_weights = torch.ones(config.vocab_size)
        self.centre = self.question_centre = torch.zeros(config.dim)
        self.whitening = torch.eye(config.dim)

    def fit(self, texts: Sequence[str]) -> np.ndarray:
        """Learn frequencies, centres and whitening from the passages; return their vectors (n, C)."""
        counts = torch.zeros(len(self.token_weights))
        for text in texts:
            ids = torch.from_numpy(self.tokenizer.encode_array(text).astype(np.int64))
            counts += torch.bincount(ids, minlength=len(counts))
        self.token_weights = SIF_A / (SIF_A + counts / counts.sum().clamp(min=1))
        raw = self._means(texts)  # (n, C)
        spans = [text[a:b] for text in texts for a, b in sentences(text)]
        spread = np.linspace(0, len(spans) - 1, min(len(spans), MAX_SENTENCES)).astype(int)
        self.centre = raw.mean(0)
        self.question_centre = self._means([spans[i] for i in spread]).mean(0)
        centred = (raw - self.centre).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        raised = values.clamp(min=0) + SHRINK * values.clamp(min=0).sum()
        self.whitening = (vectors / raised.clamp(min=1e-12).sqrt()).float()  # (C, C)
        return self._finish(raw, self.centre)

    def passages(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, C)."""
        return self._finish(self._means(texts), self.centre)

    def question(self, text: str) -> np.ndarray:
        """Return float32 (C,)."""
        return self._finish(self._means([text]), self.question_centre)[0]

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned of the passages."""
        names = ("token_weights", "centre", "question_centre", "whitening")
        return {f"hidden.{name}": getattr(self, name) for name in names}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the tensors of a file back. Raises ValueError for those of another model."""
        for name, tensor in tensors.items():
            if name.startswith("hidden."):
                own = name.removeprefix("hidden.")
                if tensor.shape != getattr(self, own).shape:
                    raise ValueError(f"index: {name} is of another model; remove the index, it is made again")
                setattr(self, own, tensor)

    def _finish(self, raw: Tensor, centre: Tensor) -> np.ndarray:
        x = (raw - centre) @ self.whitening  # (n, C)
        return torch.nn.functional.normalize(x, dim=1).numpy()

    def _means(self, texts: Sequence[str]) -> Tensor:
        """Return the weighted mean hidden state of each text, length one: (n, C)."""
        means = torch.stack([self._mean(text) for text in texts])
        return torch.nn.functional.normalize(means, dim=1)

    @torch.inference_mode()
    def _mean(self, text: str) -> Tensor:
        ids = self.tokenizer.encode(text)[: self.model.config.max_seq_len - 1]
        device = self.model.embed.weight.device
        x_ids = torch.tensor([[self.tokenizer.end_of_text, *ids]], device=device)  # (1, T)
        x = self.model.embed_tokens(x_ids)
        rope, first_values = self.model.rope(0, x_ids.shape[1]), None
        for block in list(self.model.blocks)[: self.layer]:
            x, first_values = block(x, rope, first_values, None, None)  # (1, T, C)
        weights = self.token_weights[torch.tensor(ids, dtype=torch.long)]  # (T - 1,)
        return weights @ x[0, 1:].float().cpu()  # (C,)
