"""flows/dvc_graph.py against DVC itself and hand-drawn graphs."""

from pathlib import Path

import pytest

from flows.dvc_graph import parse_dot, read_graph, run_order


def test_reads_the_graph_of_a_real_project(project: Path) -> None:
    """Guards against matrix names (`work@a`) being split or edges being turned round."""
    graph = read_graph(project)
    assert graph == {
        "fetch": set(),
        "work@a": {"fetch"},
        "work@b": {"fetch"},
        "end": {"work@a", "work@b"},
    }
    assert run_order(graph) == ["fetch", "work@a", "work@b", "end"]


def test_a_target_brings_what_it_needs_and_a_bare_matrix_name_every_variant() -> None:
    """Guards against `--single-item` running a target whose inputs were never made."""
    graph = parse_dot('strict digraph {\n"a";\n"z";\n"a" -> "m@x";\n"a" -> "m@y";\n"m@x" -> "z";\n}')
    assert run_order(graph, ["z"]) == ["a", "m@x", "z"]
    assert run_order(graph, ["m"]) == ["a", "m@x", "m@y"]
    with pytest.raises(ValueError, match=r"no stage 'q' in dvc\.yaml; the stages are a, m@x, m@y, z"):
        run_order(graph, ["q"])


def test_parses_other_spellings_of_dot() -> None:
    """Guards against attributes, chains and an arrow inside a quoted name being misread."""
    graph = parse_dot('digraph {\n  "sub/dvc.yaml:a" -> "b" -> "c" [label="x"];\n "odd->name" ;\n}')
    assert graph == {
        "sub/dvc.yaml:a": set(),
        "b": {"sub/dvc.yaml:a"},
        "c": {"b"},
        "odd->name": set(),
    }


def test_a_broken_dvc_yaml_is_told_in_dvcs_words(project: Path) -> None:
    """Guards against an empty graph, and so an empty successful run, for a broken dvc.yaml."""
    (project / "dvc.yaml").write_text("stages:\n  a:\n    cmd: [\n")
    with pytest.raises(ValueError, match=r"`dvc dag` failed: .*dvc\.yaml"):
        read_graph(project)
