"""Payment log lines: layouts that parse, and none on both sides."""

import csv
import json
from xml.etree import ElementTree

from gpt.corpus.payment_lines import LAYOUTS, NAMINGS, generate_payment_logs, layouts


def test_each_layout_is_what_it_says() -> None:
    """Guards: JSON with a broken quote, XML that does not close. What the parsers read back is asserted."""
    seen = set()
    for draft in generate_payment_logs(1500, seed=3, planted_fraction=0.3, val_fraction=0.5):
        text = draft.record["text"]
        name = next((t.split()[1] for t in draft.templates if t.startswith("layout ")), "sms")
        seen.add(name)
        if name in ("json", "nested"):
            assert isinstance(json.loads(text), dict)
        elif name in ("xml", "attributes"):
            assert ElementTree.fromstring(text) is not None
        elif name == "csv":
            assert len(next(csv.reader([text]))) >= 5
        elif name == "syslog":
            assert text.startswith("<")
            assert " payments[" in text
        assert "\n" not in text
    assert seen == {*LAYOUTS, "sms"}


def test_layouts_are_cut_once() -> None:
    """Guards: a layout with its naming on both sides. 40 pairs, a fifth held out: 8."""
    train, val = layouts("train"), layouts("val")
    assert len(train) + len(val) == len(LAYOUTS) * len(NAMINGS) == 40
    assert len(val) == 8
    assert set(train).isdisjoint(val)
