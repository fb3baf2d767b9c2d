"""logs: generated and real Hinglish chats and payment logs, scrubbed -> train.jsonl, val.jsonl."""

from typing import Any

from gpt.corpus.compose_logs import compose_logs
from gpt.corpus.config import LogsConfig
from gpt.corpus.jsonl import write_jsonl
from stages.outputs import write_json
from stages.runner import StageRun, stage


@stage(config=LogsConfig, inputs=("files",))
def logs(config: LogsConfig, run: StageRun) -> dict[str, Any]:
    """Write the log set and what was redacted; measure the scrubber on what was planted."""
    files = run.out / "files"
    files.mkdir()
    made = compose_logs(config, run.inputs["files"] / "extra")
    write_jsonl(files / "train.jsonl", made.train)
    write_jsonl(files / "val.jsonl", made.val)
    sources: dict[str, int] = {}
    for record in made.train + made.val:
        sources[record["source"]] = sources.get(record["source"], 0) + 1
    summary = {
        "records_by_source": sources,
        "languages": dict(sorted(made.languages.items())),
        "redacted_by_kind": dict(sorted(made.redacted.items())),
        "recall_by_kind": {
            kind: {"planted": n, "leaked": made.leaked_by_kind[kind]}
            for kind, n in sorted(made.planted_by_kind.items())
        },
        "split": "by the hash of the record's id and the seed; no scrubbed text is on both sides",
        "recall_is_measured_on": "canaries of the generator in gpt/corpus/planted.py, not on people",
        "false_positive_rate_is_measured_on": "generated records without planted data",
    }
    write_json(files / "summary.json", summary)
    return made.metrics()


if __name__ == "__main__":
    raise SystemExit(logs.main())
