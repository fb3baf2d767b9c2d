"""The pipeline as DVC wrote it down: the stages of dvc.yaml, and the dials that dvc.lock recorded.

Reads YAML; runs no dvc. The lock says what a stage really ran with, which params.yaml may no longer say.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineStage:
    """One stage of dvc.yaml; each variant of a matrix is one."""

    label: str
    """`scale-dense`: what its folder, its run and its row are called."""
    key: str
    """`scale@dense`: what DVC calls it."""
    section: str
    """`scale.dense`: its section of params.yaml."""
    description: str


def read_stages(dvc_yaml: Path) -> list[PipelineStage]:
    """Return the stages in the order of the file; raises ValueError when it is damaged."""
    stages = []
    for name, entry in _read_stages_of(dvc_yaml).items():
        variants = itertools.product(*entry.get("matrix", {}).values())
        for variant in ("-".join(map(str, values)) for values in variants):
            stages.append(
                PipelineStage(
                    label=f"{name}-{variant}" if variant else name,
                    key=f"{name}@{variant}" if variant else name,
                    section=f"{name}.{variant}" if variant else name,
                    description=entry.get("desc", ""),
                )
            )
    return stages


def recorded_dials(dvc_lock: Path, stages: list[PipelineStage]) -> dict[str, dict[str, Any]]:
    """Return {label: its section as it last ran}; a stage that DVC never ran is not in it."""
    locked = _read_stages_of(dvc_lock) if dvc_lock.is_file() else {}
    dials = {}
    for stage in stages:
        params = locked.get(stage.key, {}).get("params", {}).get("params.yaml", {})
        if stage.section in params:
            dials[stage.label] = params[stage.section]
    return dials


def lock_sha256(dvc_lock: Path, without: str) -> str | None:
    """Return the hash of dvc.lock's other stages, None where there is no lock.

    The stage that asks is left out: its own entry is written after it ends, and would change the answer.
    """
    if not dvc_lock.is_file():
        return None
    locked = {key: entry for key, entry in _read_stages_of(dvc_lock).items() if key != without}
    return hashlib.sha256(json.dumps(locked, sort_keys=True).encode()).hexdigest()


def seeds_of(dials: dict[str, Any], prefix: str) -> dict[str, int]:
    """Return every `seed` in a section by its dotted name."""
    seeds: dict[str, int] = {}
    for key, value in dials.items():
        if isinstance(value, dict):
            seeds |= seeds_of(value, f"{prefix}.{key}")
        elif key == "seed":
            seeds[f"{prefix}.seed"] = value
    return seeds


def _read_stages_of(path: Path) -> dict[str, dict[str, Any]]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise ValueError(f"{path}: not a file of DVC's stages; run `git checkout {path}`")
    return stages
