"""docs/chapters/server.md prints what benchmarks/server_load.py measured, and its prose agrees."""

import json

from benchmarks.result_file import RESULTS
from benchmarks.server_load import CHAPTER, summary, table
from benchmarks.tokenizer_chapter import rewrite

PAGE = CHAPTER.read_text(encoding="utf-8")


def test_the_chapters_table_is_the_result() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without the chapter."""
    result = json.loads((RESULTS / "server_load.json").read_text(encoding="utf-8"))
    assert rewrite(PAGE, {"load": table(result)}) == PAGE, "type: python -m benchmarks.server_load"
    surplus, cut = result["surplus"], result["cut"]
    assert surplus["whole"] + surplus["refused"] == 500
    assert surplus["whole"] >= 128
    assert surplus["refused_with_retry_after"] == surplus["refused"] > 0
    assert cut["others_whole"] == cut["streams"] - cut["cut"]
    assert cut["free_s"] < 1


def test_the_summary_by_hand() -> None:
    """By hand: 2 and 4 tokens/s have the median 3 and, as the standard error of their mean, 1; 30 over 3 is
    10. Guards: a ratio upside down."""

    def scene(rate: float) -> dict[str, object]:
        return {"whole": 1, "tokens_per_s": rate, "tokens_per_cpu_s": rate, "first_token_s": [0.5]}

    refused = {"whole": 1, "refused": 2, "refused_with_retry_after": 2}
    scenes = {
        "one": [scene(2.0), scene(4.0)],
        "many": [scene(30.0)],
        "surplus": refused,
        "cut": {"free_s": 0.1},
    }
    result = summary(scenes)
    assert result["one"]["tokens_per_s"] == 3
    assert result["one"]["tokens_per_s_standard_error"] == 1
    assert result["one"]["whole"] == 2
    assert result["ratio_tokens_per_s"] == 10
    assert result["many"]["first_token_p95_s"] == 0.5
