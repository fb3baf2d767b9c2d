"""docs/chapters/cpu_int4.md prints what the benchmark measured; the benchmark's arithmetic by hand."""

import json
from pathlib import Path

from benchmarks import cpu_int4_decode
from benchmarks.result_file import RESULTS

CHAPTER = (Path(__file__).parents[2] / "docs/chapters/cpu_int4.md").read_text(encoding="utf-8")


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    result = json.loads((RESULTS / "cpu_int4_decode.json").read_text(encoding="utf-8"))
    assert cpu_int4_decode.table(result) in CHAPTER, "print it: python -m benchmarks.cpu_int4_decode --table"
    assert CHAPTER.count("\n|---") == 2, "a table that no benchmark printed"


def test_the_arithmetic_of_the_tables() -> None:
    """Guards: a share of the bound that is upside down. 100 tokens of 60 MB are 6 GB a second, of 12: half.
    Of 100 and 50 tokens ours is twice the other's. 1.25 sd of (1, 2, 3) over sqrt 3 is 0.72."""
    assert abs(cpu_int4_decode.middle([1.0, 2.0, 3.0])["se"] - 0.7217) < 1e-4

    def row(side: str, decode: float, prefill: float, read: int | None) -> dict[str, object]:
        speeds = {
            name: {"median": v, "se": 0.0, "n": 3} for name, v in (("decode", decode), ("prefill", prefill))
        }
        return {"side": side, **speeds, "weight_bytes": 10**8, "read_bytes": read}

    rows = [row(cpu_int4_decode.OURS, 100, 900, 60_000_000), row(cpu_int4_decode.PEER, 50, 100, None)]
    text = cpu_int4_decode.table(
        {"rows": rows, "read_bytes_per_second": {"median": 12e9}, "quality": []}
    ).splitlines()
    assert text[2] == f"| {cpu_int4_decode.OURS} | 100.0 ± 0.0 | 50% | 900 ± 0 | 100 | 1.00x, 1.00x |"
    assert text[3] == f"| {cpu_int4_decode.PEER} | 50.0 ± 0.0 |  | 100 ± 0 | 100 | 2.00x, 9.00x |"
