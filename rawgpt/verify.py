"""`rawgpt verify`: the lineage of every model here, link by link. Reads hashes; loads no weights.

Three kinds of link: a folder and its manifest (every byte is what was written), a checkpoint and its
parent (the parent stands here, unchanged), and dvc.lock's stages (what one read is what the other wrote).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from rawgpt.dvc_lock import read_lock
from rawgpt.exit_codes import EXIT_GOOD, EXIT_USER


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One link of the chain."""

    name: str
    is_whole: bool
    detail: str
    """What it is linked to, or what broke and what to type."""


def verify(as_json: Annotated[bool, Option("--json", help="Print a JSON list of links.")] = False) -> int:
    """Check every model's files and where it came from.

    Follows each checkpoint to its parent, and dvc.lock from the models back to the data. A broken link is
    named with the command that mends it; the exit code is then 1.
    """
    links = model_links(Path("models")) + lock_links(Path("dvc.lock"))
    if not links:
        raise ValueError("models/: no checkpoint and no dvc.lock; run `dvc repro` first")
    if as_json:
        print(json.dumps([asdict(link) for link in links], indent=2))
    else:
        width = max(len(link.name) for link in links)
        for link in links:
            print(f"{'ok' if link.is_whole else 'BROKEN':6}  {link.name:{width}}  {link.detail}")
    return EXIT_GOOD if all(link.is_whole for link in links) else EXIT_USER


def model_links(root: Path) -> list[Link]:
    """Return the links of `<root>/*/checkpoint` and `<root>/*/adapter`: to their bytes and their parents."""
    from gpt.checkpoint.manifest import check_manifest

    folders = sorted([*root.glob("*/checkpoint"), *root.glob("*/adapter")])
    infos: dict[Path, dict[str, Any]] = {}
    hashes: dict[str, Path] = {}
    links = []
    for folder in folders:
        try:
            sha256 = check_manifest(folder)
            infos[folder] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            hashes[sha256] = folder
        except (ValueError, OSError) as error:
            links.append(Link(name=_label(folder), is_whole=False, detail=str(error)))
    for folder, info in infos.items():
        links.append(_parent_link(folder, info, infos, hashes))
    return sorted(links, key=lambda link: link.name)


def _parent_link(
    folder: Path, info: dict[str, Any], infos: dict[Path, dict[str, Any]], hashes: dict[str, Path]
) -> Link:
    """Follow one folder to its parent by hash."""
    name = _label(folder)
    sha256 = next(key for key, value in hashes.items() if value == folder)
    parent_sha256 = info.get("base_sha256") or info.get("parent_sha256")
    if parent_sha256 is None:
        return Link(name=name, is_whole=True, detail=f"{sha256[:12]}, trained from scratch")
    remedy = f"run `dvc repro {folder}`"
    parent = hashes.get(parent_sha256)
    if parent is None:
        detail = f"its parent {parent_sha256[:12]} is not here: made again or damaged since; {remedy}"
        return Link(name=name, is_whole=False, detail=detail)
    own = info.get("tokenizer_fingerprint")  # an adapter has none: it speaks with its base's tokenizer
    if own is not None and own != infos[parent].get("tokenizer_fingerprint"):
        detail = f"its tokenizer is not that of its parent {_label(parent)}; {remedy}"
        return Link(name=name, is_whole=False, detail=detail)
    return Link(name=name, is_whole=True, detail=f"{sha256[:12]}, from {_label(parent)}")


def lock_links(path: Path) -> list[Link]:
    """Return the links between the stages of dvc.lock: the hash one stage read is the one another wrote."""
    stages = read_lock(path)
    made = {out["path"]: (name, out) for name, stage in stages.items() for out in stage.get("outs", ())}
    links = []
    for name, stage in stages.items():
        for dep in stage.get("deps", ()):
            if dep["path"] not in made:
                continue
            maker, out = made[dep["path"]]
            is_whole = dep.get("md5") == out.get("md5")
            detail = f"read {dep['path']} as {maker} wrote it"
            if not is_whole:
                detail = f"read another {dep['path']} than {maker} wrote; run `dvc repro {name}`"
            links.append(Link(name=f"dvc.lock {name}", is_whole=is_whole, detail=detail))
    return links


def _label(folder: Path) -> str:
    """Return `pretrain` for models/pretrain/checkpoint, `finetune/adapter` for an adapter."""
    return folder.parent.name if folder.name == "checkpoint" else f"{folder.parent.name}/{folder.name}"
