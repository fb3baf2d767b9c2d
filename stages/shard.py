"""shard: the corpus as token files, one a split."""

from gpt.corpus.documents import read_split
from gpt.dataset.config import ShardConfig
from gpt.dataset.shard_file import write_shard
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.runner import StageRun, stage


@stage(config=ShardConfig, inputs=("files", "tokenizer"))
def shard(config: ShardConfig, run: StageRun) -> dict[str, float]:
    """Encode both splits."""
    tokenizer = load_tokenizer(run.inputs["tokenizer"])
    folder = run.out / "shards"
    folder.mkdir()
    counts: dict[str, int] = {}
    for split in ("train", "val"):
        documents = read_split(run.inputs["files"], split)
        counts[f"{split}_tokens"] = write_shard(
            folder / f"{split}.bin",
            (tokenizer.encode(document["text"]) for document in documents),
            n_vocab=tokenizer.n_vocab,
            end_of_text=tokenizer.end_of_text,
            fingerprint=tokenizer.fingerprint,
        )
    if counts["train_tokens"] < config.min_train_tokens:
        raise ValueError(
            f"shard.min_train_tokens: the train split has {counts['train_tokens']} tokens, "
            f"{config.min_train_tokens} are asked for; add text or lower the dial"
        )
    return dict(counts)


if __name__ == "__main__":
    raise SystemExit(shard.main())
