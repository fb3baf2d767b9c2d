"""shard: the corpus as token files, in parts that workers share and that survive a kill."""

import sys
import time

from gpt.dataset.config import ShardConfig
from gpt.dataset.encode_corpus import assemble, encode_parts
from stages.runner import StageRun, stage


@stage(config=ShardConfig, inputs=("files", "tokenizer"))
def shard(config: ShardConfig, run: StageRun) -> dict[str, float]:
    """Encode both splits; the shards of finished parts lie in the resume folder until all are there."""
    started = time.monotonic()
    parts = []
    n_tokens = n_new = 0
    folder = run.resume_dir / "parts"
    inputs = (run.inputs["files"], run.inputs["tokenizer"])
    for part in encode_parts(*inputs, folder, part_bytes=config.part_bytes, workers=config.workers):
        parts.append(part)
        tokens = sum(header.n_tokens for header in part.headers)
        n_tokens, n_new = n_tokens + tokens, n_new + tokens * (not part.was_done)
        rate = n_new / (time.monotonic() - started)
        run.sink.log(len(parts), {"tokens": n_tokens, "tokens_per_s": rate})
    n_done = sum(part.was_done for part in parts)
    if n_done:
        print(f"shard: {n_done} of {len(parts)} parts were encoded before", file=sys.stderr)
    headers = [header for part in parts for header in part.headers]
    train_tokens = sum(header.n_tokens for header in headers if header.split == "train")
    if train_tokens < config.min_train_tokens:
        raise ValueError(
            f"shard.min_train_tokens: the train split has {train_tokens} tokens, "
            f"{config.min_train_tokens} are asked for; add text or lower the dial"
        )
    assemble(parts, folder, run.out / "shards")
    seconds = time.monotonic() - started
    return {
        "train_tokens": train_tokens,
        "val_tokens": n_tokens - train_tokens,
        "documents": sum(header.n_documents for header in headers),
        "shards": len(headers),
        "bytes_per_token": round(sum(part.n_bytes for part in parts) / n_tokens, 4),
        "encode_s": round(seconds, 2),
        "tokens_per_s": round(n_new / seconds),
    }


if __name__ == "__main__":
    raise SystemExit(shard.main())
