"""tokenize: train byte-level BPE on the corpus's train split, or take another vocabulary."""

from collections.abc import Iterator

from gpt.corpus.documents import DocumentPart, cut_parts, read_part, read_split
from gpt.tokenizer.byte_level import pad_vocabulary
from gpt.tokenizer.config import TokenizeConfig
from gpt.tokenizer.count_parts import count_parts
from gpt.tokenizer.gpt2_files import find_gpt2_files, gpt2_tokenizer, with_chat_tokens
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.tokenizer import bpe_tokenizer, char_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.workers.config import WorkersConfig
from stages.runner import StageRun, stage

PART_BYTES = 16 * 2**20
"""What one process counts at a time: it earns its start, and two share a corpus of twice that."""


@stage(config=TokenizeConfig, inputs=("files",))
def tokenize(config: TokenizeConfig, run: StageRun) -> dict[str, float]:
    """Make it, save it, and measure bytes per token on text that it was not trained on."""
    files, counted = run.inputs["files"], {}
    if config.kind == "trained":
        workers = WorkersConfig(processes=config.processes)
        words = count_parts(cut_parts(files, PART_BYTES), train_texts, PATTERNS[config.pattern], workers)
        tokenizer = bpe_tokenizer(words, config.vocab_size, config.pattern)
        counted = {"words": words.total(), "distinct_words": len(words)}
    elif config.kind == "gpt2":
        tokenizer = with_chat_tokens(gpt2_tokenizer(*find_gpt2_files(files / "extra")))
    elif config.kind == "gguf":
        from gpt.checkpoint.gguf import (
            find_gguf,
            open_gguf,
        )  # torch: seconds, for vocabularies that need none

        tokenizer = open_gguf(find_gguf(files / "extra")).tokenizer
    else:  # the characters of both splits: an id for every one that will be read
        texts = (document["text"] for split in ("train", "val") for document in read_split(files, split))
        tokenizer = char_tokenizer(texts)
    tokenizer = pad_vocabulary(tokenizer, config.vocab_size, "tokenize.vocab_size")
    save_tokenizer(run.out / "tokenizer", tokenizer)
    n_bytes = n_tokens = 0
    for document in read_split(files, "val"):
        n_bytes += len(document["text"].encode())
        n_tokens += len(tokenizer.encode(document["text"]))
    return {"n_vocab": tokenizer.n_vocab, "val_bytes_per_token": round(n_bytes / n_tokens, 4), **counted}


def train_texts(part: DocumentPart) -> Iterator[str]:
    """Yield the texts of a part's train documents; a process of its own may call it."""
    return (document["text"] for document in read_part(part, "train"))


if __name__ == "__main__":
    raise SystemExit(tokenize.main())
