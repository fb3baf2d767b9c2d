"""gpt/config.py: strict loading."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from gpt.config import fingerprint, from_mapping, load_section, to_dotted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float
    mode: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    names: tuple[str, ...]
    inner: Inner

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: at least 1 is needed, got {self.steps}")


GOOD = {"steps": 3, "names": ["x"], "inner": {"lr": 1}}


def test_good_mapping_loads_with_int_as_float() -> None:
    """Guards: a whole number in a float's place must not be refused, nor stay an int."""
    outer = from_mapping(Outer, GOOD, "s")
    assert outer.inner.lr == 1.0
    assert isinstance(outer.inner.lr, float)
    assert outer.names == ("x",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, r"s\.step: unknown key; did you mean 'steps'"),
        ({"steps": "3"}, r"s\.steps: int is expected, got '3'"),
        ({"steps": True}, r"s\.steps: int is expected, got True"),
        ({"steps": 0}, r"s\.steps: at least 1"),
        ({"names": "x"}, r"s\.names: a list is expected"),
        ({"names": [1]}, r"s\.names\[0\]: str is expected"),
        (
            {"inner": {"lr": "3e-4"}},
            r"s\.inner\.lr: float is expected, got '3e-4' \(a string\); write 3\.0e-4",
        ),
        ({"inner": {"lr": 1.0, "mode": "c"}}, r"s\.inner\.mode: got 'c'; choose one of a, b"),
        ({"inner": 3}, r"s\.inner: a mapping is expected"),
        ({"inner": {}}, r"s\.inner\.lr: key is missing"),
    ],
)
def test_bad_mapping_is_refused_by_dotted_name(change: dict, message: str) -> None:
    """Guards: a typo or a `3e-4` string that is converted silently trains the wrong model."""
    with pytest.raises(ValueError, match=message):
        from_mapping(Outer, {**GOOD, **change}, "s")


def test_missing_section_and_file_say_what_to_do(tmp_path: Path) -> None:
    """Guards: a KeyError traceback where a person mistyped a section."""
    with pytest.raises(ValueError, match="no such file"):
        load_section(tmp_path / "params.yaml", "s", Outer)
    (tmp_path / "params.yaml").write_text("s: {steps: 1}\n")
    with pytest.raises(ValueError, match=r"section 's\.dense' is missing"):
        load_section(tmp_path / "params.yaml", "s.dense", Outer)
    (tmp_path / "params.yaml").write_text("s: [1\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_section(tmp_path / "params.yaml", "s", Outer)


def test_fingerprint_sees_values_and_not_key_order() -> None:
    """Guards: resuming a run of other hyperparameters, or missing one of the same."""
    outer = from_mapping(Outer, GOOD, "s")
    again = from_mapping(Outer, dict(reversed(GOOD.items())), "s")
    assert fingerprint(outer) == fingerprint(again)
    assert fingerprint(outer) != fingerprint(dataclasses.replace(outer, steps=4))
    assert to_dotted(outer, "s") == {"s.steps": 3, "s.names": ["x"], "s.inner.lr": 1.0, "s.inner.mode": "a"}
