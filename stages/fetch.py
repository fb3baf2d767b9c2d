"""fetch: raw text by registry name or path -> documents.jsonl, sources.json, extra sets."""

from typing import Any

from gpt.config import to_dict
from gpt.corpus.collect import copy_extra, open_source
from gpt.corpus.config import FetchConfig
from gpt.corpus.prepare import prepare, write_jsonl
from gpt.corpus.registry import SourceUnavailable
from stages.outputs import write_json
from stages.runner import PassingFailure, StageRun, stage

VAL_IDS_SHOWN = 200


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
    corpus = prepare(raw, config)
    write_jsonl(files / "documents.jsonl", corpus.documents)
    extras = {name: copy_extra(name, files / "extra") for name in config.extras}
    val_ids = corpus.ids("val")
    sources = {
        "config": to_dict(config),
        "source": source,
        "split": {"rule": corpus.rule, "n_val": len(val_ids), "val_ids": val_ids[:VAL_IDS_SHOWN]},
        "left_out": {"short": corpus.n_short, "repeated": corpus.n_repeated},
        "extras": extras,
    }
    write_json(files / "sources.json", sources)
    return {
        "documents": len(corpus.documents),
        "val_documents": len(val_ids),
        "train_chars": corpus.n_chars("train"),
        "val_chars": corpus.n_chars("val"),
        "bytes": sum(len(document["text"].encode()) for document in corpus.documents),
        "extras_found": sum(extra["found"] for extra in extras.values()),
        "extras_absent": sum(not extra["found"] for extra in extras.values()),
    }


if __name__ == "__main__":
    raise SystemExit(fetch.main())
