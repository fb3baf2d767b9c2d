"""tokenize: train byte-level BPE on the corpus's train split."""

from gpt.corpus.documents import read_split
from gpt.tokenizer.config import TokenizeConfig
from gpt.tokenizer.tokenizer import train_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from stages.runner import StageRun, stage


@stage(config=TokenizeConfig, inputs=("files",))
def tokenize(config: TokenizeConfig, run: StageRun) -> dict[str, float]:
    """Train, save, and measure bytes per token on text that it did not train on."""
    train = [document["text"] for document in read_split(run.inputs["files"], "train")]
    val = [document["text"] for document in read_split(run.inputs["files"], "val")]
    tokenizer = train_tokenizer(train, config.vocab_size, config.pattern)
    save_tokenizer(run.out / "tokenizer", tokenizer)
    n_bytes = sum(len(text.encode()) for text in val)
    n_tokens = sum(len(tokenizer.encode(text)) for text in val)
    return {"n_vocab": tokenizer.n_vocab, "val_bytes_per_token": round(n_bytes / n_tokens, 4)}


if __name__ == "__main__":
    raise SystemExit(tokenize.main())
