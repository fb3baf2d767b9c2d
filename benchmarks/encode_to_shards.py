"""Does the whole encoding keep up with tiktoken's own batch? Books at GPT-2's vocabulary, the same cores.

Ours reads documents.jsonl, encodes in processes, hashes, writes and fsyncs shards and lists them; the peer is
tiktoken's `encode_ordinary_batch` with as many threads on the same texts, already in memory, its result
dropped. Interleaved; medians. Beside them one core each: ours in this process, and `encode_ordinary` in a loop.
Needs the registry's books and GPT-2's merges (RAWGPT_DATA_MIRROR or the network). About 3 minutes at 64 MB.
"""

import argparse
import importlib.metadata
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tiktoken

from benchmarks.result_file import write_result
from gpt.corpus import registry
from gpt.corpus.documents import cut_parts, read_part
from gpt.corpus.prepare import write_jsonl
from gpt.corpus.text_files import read_records
from gpt.dataset.encode_corpus import assemble, encode_parts
from gpt.dataset.shard_set import open_shards
from gpt.tokenizer.hugging_face import read_hugging_face
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.workers.config import WorkersConfig

PART_MB = 4.0
VAL_EVERY = 50
