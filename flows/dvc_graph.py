"""The stages in the order in which they can run, read from `dvc dag --dot`.

DVC owns the graph; nothing here knows a stage's name. A matrix stage is named `scale@dense`.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

ATTRIBUTES = re.compile(r"\[[^\]]*\]\s*;?\s*$")
NODE = re.compile(r'"((?:[^"\\]|\\.)*)"')


def parse_dot(dot: str) -> dict[str, set[str]]:
    """Return {stage: the stages it needs} from DOT text; edges point from needed to needing."""
    graph: dict[str, set[str]] = {}
    for line in dot.splitlines():
        names = NODE.findall(ATTRIBUTES.sub("", line))
        for name in names:
            graph.setdefault(name, set())
        for before, after in pairwise(names):
            graph[after].add(before)
    return graph


def read_graph(root: Path) -> dict[str, set[str]]:
    """Ask DVC for the graph of a repository. Raises ValueError with DVC's own words."""
    command = [sys.executable, "-m", "dvc", "dag", "--dot"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip()
        raise ValueError(f"{root}: `dvc dag` failed: {reason}")
    return parse_dot(done.stdout)


def run_order(graph: Mapping[str, set[str]], targets: Iterable[str] | None = None) -> list[str]:
    """Return the stages, needed before needing, alphabetically where both orders are right.

    With targets: only these and what they need; `scale` stands for every `scale@...`.
    Raises ValueError for a target that the graph lacks.
    """
    wanted = set(graph) if targets is None else _closure(graph, targets)
    sorter = TopologicalSorter({name: graph[name] for name in wanted})
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def _closure(graph: Mapping[str, set[str]], targets: Iterable[str]) -> set[str]:
    pending: list[str] = []
    for target in targets:
        matches = [name for name in graph if name == target or name.startswith(f"{target}@")]
        if not matches:
            known = ", ".join(sorted(graph))
            raise ValueError(f"targets: no stage '{target}' in dvc.yaml; the stages are {known}")
        pending += matches
    wanted: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += graph[name]
    return wanted
