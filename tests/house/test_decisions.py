"""docs/decisions prints what the benchmarks measured: a row that differs is printed as it should be."""

import json
from pathlib import Path
from typing import Any

from benchmarks.result_file import RESULTS

DECISIONS = Path(__file__).parents[2] / "docs/decisions"


def result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def missing(page: str, rows: list[str]) -> list[str]:
    text = (DECISIONS / page).read_text(encoding="utf-8")
    return [row for row in rows if row not in text]


def test_engines_for_several_machines() -> None:
    """Guards: a table that stays when the measurement behind the choice of Dask is made again."""
    many, few = (result(f"cluster_engines_{n}_parts")["engines"] for n in (200, 8))
    names = ("local", "dask", "ray")
    rows = [
        ("start to first results, s", [many[name]["start_s"] for name in names]),
        ("encode 40 MB in 200 parts, MB/s", [many[name]["mb_per_s"] for name in names]),
        ("encode 80 MB in 8 parts, MB/s (one run)", [few[name]["mb_per_s"] for name in names]),
        ("memory of all processes, idle, MiB", [many[name]["idle_mib"] for name in names]),
        ("the same at its highest", [many[name]["peak_mib"] for name in names]),
        ("its own files, MiB", [many[name]["own_files_mib"] for name in names]),
    ]
    assert not missing(
        "large_corpora.md", [f"| {label} | {' | '.join(map(str, values))} |" for label, values in rows]
    )


def test_near_duplicates() -> None:
    """Guards: the same, behind the choice of our own MinHash."""
    found = result("near_duplicates")
    rows = [
        f"| {name} | {side['documents_per_s']:,} | {side['recall']:.3f} | {side['false_finds']} |"
        for name, side in found["sides"].items()
    ]
    assert not missing("near_duplicates.md", rows)
    sizes = f"{found['documents']:,} documents, {found['copies_at_threshold']} copies at the threshold"
    assert not missing("near_duplicates.md", [sizes])
