"""What every foreign weight format needs: names, shapes, limits. The formats are the files beside this one.

A format says which dials of ModelConfig it can hold. Every other dial must stand at its default, which by
ModelConfig's own rule means "off": so a dial that is added later is refused without a word here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.save_load import load_tensors, model_tensors
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer

RUNTIME_DIALS = frozenset({"dropout", "attention_backend", "fused_kernels"})
"""Dials of training and of the machine: they change no output of a finished model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignModel:
    """A model read from somebody else's files, under our names, in fp32."""

    architecture: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer
    """With a text for every embedding."""
    format: str
    sha256: str
    """Identity of the files read."""

    def load(self) -> Transformer:
        """Build the model, in evaluation mode."""
        model = Transformer(self.architecture)
        load_tensors(model, self.tensors)
        return model.eval()


@dataclass(frozen=True, kw_only=True, slots=True)
class NameTable:
    """Our tensor names in a format's words."""

    outer: Mapping[str, str]
    """Modules outside of the blocks."""
    blocks: str
    """What a block's index is put behind."""
    inner: Mapping[str, str]
    """Modules of a block."""

    def theirs(self, ours: str) -> str:
        """Return the foreign name of one of our tensors."""
        module, _, kind = ours.rpartition(".")
        if kind not in ("weight", "bias"):  # stacked experts are bare parameters
            module, kind = ours, "weight"
        if module in self.outer:
            return f"{self.outer[module]}.{kind}"
        _, layer, inner = module.split(".", 2)
        return f"{self.blocks}.{layer}.{self.inner[inner]}.{kind}"


class ForeignTensors:
    """Tensors under foreign names, taken out one by one; what is left at the end is surplus."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._left = dict(tensors)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Return a tensor in fp32; raises ValueError when it is missing, misshapen or no float."""
        if name not in self._left:
            raise ValueError(f"{self._where}: tensor {name!r} is missing")
        tensor = self._left.pop(name)
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"{self._where}: tensor {name!r} has the shape {tuple(tensor.shape)}, "
                f"its config asks for {tuple(shape)}"
            )
        if not tensor.is_floating_point():
            raise ValueError(
                f"{self._where}: tensor {name!r} is {tensor.dtype}; quantized files are not read"
            )
        return tensor.float()

    def drop_copy(self, name: str, original: str) -> None:
        """Drop a tied tensor that is written twice; raises ValueError when the two differ."""
        if name not in self._left or original not in self._left:
            return
        if not torch.equal(self._left.pop(name), self._left[original]):
            raise ValueError(f"{self._where}: {name!r} is tied to {original!r} by the config, but differs")

    def finish(self) -> None:
        """Raise ValueError when a tensor was not taken."""
        if self._left:
            raise ValueError(f"{self._where}: tensor {min(self._left)!r} has no place in the model")


def expected_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a checkpoint of this architecture, by our name."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in model_tensors(Transformer(config)).items()}


def refuse_unheld(config: ModelConfig, held: frozenset[str], format_name: str) -> None:
    """Raise ValueError that names the first dial which a format cannot hold."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in held | RUNTIME_DIALS and value != field.default:
            raise ValueError(
                f"{field.name}: {value!r} cannot be held by the {format_name} format; "
                f"train with {field.name}: {field.default!r} to export to it"
            )


class ForeignConfig:
    """A foreign config.json, or the like, asked key by key."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content = content
        self.where = where

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive integer; raises ValueError when it is missing (without a default) or none."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            raise ValueError(f"{self.where}: {key}: a positive integer is expected, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number; raises ValueError when it is missing (without a default) or none."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.where}: {key}: a positive number is expected, got {value!r}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """Return a boolean; raises ValueError when the key holds something else."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {key}: true or false is expected, got {value!r}")
        return value

    def architecture(self, **dials: Any) -> ModelConfig:
        """Build the architecture; what ModelConfig refuses is said with the file's name."""
        try:
            return ModelConfig(**dials)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None

    def only(self, key: str, *allowed: Any) -> None:
        """Raise ValueError unless the key is absent or has one of these values: others we cannot compute."""
        if key in self.content and self.content[key] not in allowed:
            raise ValueError(
                f"{self.where}: {key}: {self.content[key]!r} is not held here; {allowed[0]!r} is expected"
            )
