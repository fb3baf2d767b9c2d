"""dvc.lock as it stands: each stage with what it read and wrote at its last run."""

from pathlib import Path
from typing import Any


def read_lock(path: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.lock, none when it is not there; raises ValueError when it is damaged."""
    import yaml

    if not path.is_file():
        return {}
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")).get("stages") or {}
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
        raise ValueError(f"{path}: damaged; run `git checkout {path}`") from None
