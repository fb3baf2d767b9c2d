"""logs: generated, real and own Hinglish chats and payment logs, scrubbed -> train.jsonl, val.jsonl, ..."""

from typing import Any

from gpt.corpus.compose_logs import compose_logs
from gpt.corpus.config import LogsConfig
from gpt.corpus.jsonl import write_jsonl
from stages.outputs import write_json
from stages.runner import StageRun, stage


@stage(config=LogsConfig, inputs=("files",))
def logs(config: LogsConfig, run: StageRun) -> dict[str, Any]:
    """Write the log set, what is measured with it, and what was redacted."""
    files = run.out / "files"
    files.mkdir()
    made = compose_logs(config, run.inputs["files"])
    for name in ("train", "val", "replay", "intents", "canaries"):
        write_jsonl(files / f"{name}.jsonl", getattr(made, name))
    write_json(files / "intent_labels.json", made.intent_labels)
    write_json(files / "summary.json", made.summary())
    return made.metrics()


if __name__ == "__main__":
    raise SystemExit(logs.main())
