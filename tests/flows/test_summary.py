"""flows/summary.py on hand-written metrics."""

import json
from pathlib import Path

from flows.summary import changes_table, read_metrics


def test_the_table_shows_changed_stages_only(tmp_path: Path) -> None:
    """Guards against a report of stages that this run did not touch."""
    for folder, metrics in {"data/shard": {"tokens": 7}, "models/pretrain": {"loss": 2.5}}.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.json").write_text(json.dumps(metrics))
    before = read_metrics(tmp_path)
    assert changes_table(before, before).startswith("No stage changed")
    after = before | {"models/pretrain": json.dumps({"loss": 1.23456789, "note": "a|b"})}
    assert changes_table(before, after).splitlines()[2:] == [
        "| models/pretrain | loss | 2.5 | 1.23457 |",
        "| models/pretrain | note | - | a\\|b |",
    ]
    assert "| data/shard | tokens | - | 7 |" in changes_table({}, after)
