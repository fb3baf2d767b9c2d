"""References -> the models of one server. An adapter whose base is among them uses the base's weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpt.adapters.lora import adapter_names
from gpt.catalog.open_model import STAGES, OpenModel, add_adapter, find_checkpoint, open_model
from gpt.catalog.open_to_run import open_to_run
from gpt.catalog.registry_models import registry_models
from gpt.checkpoint.adapter import Adapter, is_adapter, open_adapter
from gpt.checkpoint.hugging_face import is_hugging_face


def open_models(
    references: Sequence[str],
    *,
    root: Path = Path("models"),
    device: str = "cpu",
) -> list[OpenModel]:
    """Open what the references mean, in their order; raises ValueError as open_to_run does.

    Adapters are opened last: their base may be named behind them. An adapter is served under the name that
    it has on the weights it acts on, which others may use too; `info["adapter"]` is that name.
    """
    opened: dict[str, OpenModel] = {}
    folders = {reference: _adapter_folder(reference, root) for reference in references}
    for reference, folder in folders.items():
        if folder is None:
            opened[reference] = open_to_run(reference, root=root, device=device)
    for reference, folder in folders.items():
        if folder is not None:
            opened[reference] = _open_adapted(
                reference, open_adapter(folder), list(opened.values()), root, device
            )
    return [opened[reference] for reference in references]


def _open_adapted(
    reference: str, adapter: Adapter, present: Sequence[OpenModel], root: Path, device: str
) -> OpenModel:
    """Put an adapter on weights that are open already, or open it with its base."""
    for base in present:
        if _can_carry(base, adapter):
            name = add_adapter(base, adapter.folder)
            info = base.info | {
                "base": base.info.get("base", base.name),
                "base_sha256": adapter.base_sha256,
                "adapter": name,
            }
            return replace(base, info=info, name=name, sha256=adapter.sha256)
    alone = open_model(reference, root=root, device=device)
    (name,) = adapter_names(alone.model)
    return replace(alone, info=alone.info | {"adapter": name}, name=name)


def _can_carry(base: OpenModel, adapter: Adapter) -> bool:
    """Tell whether a model's weights are the adapter's base, as they lay in memory when it learned."""
    is_base = base.info.get("base_sha256", base.sha256) == adapter.base_sha256
    return is_base and base.info.get("base_precision", "fp32") == adapter.base_precision


def _adapter_folder(reference: str, root: Path) -> Path | None:
    """Return the folder of an adapter; None for any other reference, a wrong one too."""
    if reference not in STAGES:
        path = Path(reference)
        if reference in registry_models() or not path.is_dir() or is_hugging_face(path):
            return None
    folder = find_checkpoint(reference, root)
    return folder if is_adapter(folder) else None
