"""fetch: raw text by registry name or path -> documents.jsonl, sources.json, extra sets."""

from typing import Any

from gpt.config import to_dict
from gpt.corpus.collect import copy_extra, open_source
from gpt.corpus.config import FetchConfig
from gpt.corpus.contamination import index_items
from gpt.corpus.evaluation_sets import evaluation_items
from gpt.corpus.prepare import prepare
from gpt.corpus.registry import SourceUnavailable
from stages.outputs import write_json
from stages.runner import PassingFailure, StageRun, stage


@stage(config=FetchConfig)
def fetch(config: FetchConfig, run: StageRun) -> dict[str, Any]:
    """Write the corpus, what it was made of, and the extra sets that could be had."""
    files = run.out / "files"
    (files / "extra").mkdir(parents=True)
    try:
        raw, source = open_source(config.source, text_field=config.text_field)
    except SourceUnavailable as error:
        if error.is_passing:
            raise PassingFailure(str(error)) from error
        raise
    extras = {name: copy_extra(name, files / "extra") for name in config.extras}
    index = index_items(evaluation_items(files / "extra"))
    corpus = prepare(raw, config, files / "documents.jsonl", index)
    contamination = {
        "rule": "a 13-gram of words, or the whole of an item of fewer words; case and punctuation ignored",
        "documents_with_items": corpus.n_contaminated,
        "documents_are": "left out" if config.contamination == "drop" else "kept",
        "sets": corpus.contamination,
    }
    write_json(files / "contamination.json", contamination)
    split = {"rule": corpus.rule, "n_val": corpus.documents["val"], "val_ids": corpus.val_ids}
    sources = {
        "config": to_dict(config),
        "source": source,
        "split": split,
        "left_out": dict(sorted(corpus.left_out.items())),
        "redacted": dict(sorted(corpus.redacted.items())),
        "languages": dict(sorted(corpus.languages.items())),
        "extras": extras,
    }
    write_json(files / "sources.json", sources)
    return {
        **corpus.metrics(),
        "extras_found": sum(extra["found"] for extra in extras.values()),
        "extras_absent": sum(not extra["found"] for extra in extras.values()),
    }


if __name__ == "__main__":
    raise SystemExit(fetch.main())
