"""The index of a folder, opened where it is still that of the documents, else made anew and kept."""

from collections.abc import Sequence
from pathlib import Path

from gpt.catalog.open_model import OpenModel
from gpt.checkpoint.manifest import MANIFEST
from gpt.rag.config import ChunkConfig, IndexConfig
from gpt.rag.hidden_states import HiddenStates
from gpt.rag.index import Index, build_index, open_index, save_index, what_changed
from gpt.rag.passages import Document


def ready_index(
    folder: Path, documents: Sequence[Document], chunk: ChunkConfig, config: IndexConfig, opened: OpenModel
) -> tuple[Index, str]:
    """Return the index and, when it was made, why; the empty text when it was only opened.

    An index counts tokens with the model's tokenizer and may hold its states: another model, another index.
    Raises ValueError for a damaged index, and for a folder in its place that is none.
    """
    hidden = HiddenStates(opened.model, opened.tokenizer) if config.embedding == "hidden" else None
    model = opened.sha256 if hidden else opened.tokenizer.fingerprint
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise ValueError(f"index: {folder} is there and is no index; name another folder, or remove it")
    changes = what_changed(folder, documents, chunk, config, model)
    if (folder / MANIFEST).is_file() and not changes:
        return open_index(folder, hidden=hidden), ""

    def count_tokens(text: str) -> int:
        return len(opened.tokenizer.encode(text))

    index = build_index(documents, chunk, config, count_tokens=count_tokens, hidden=hidden, model=model)
    save_index(index, folder)
    more = f" and {len(changes) - 1:,} more" if len(changes) > 1 else ""
    return index, f"made anew: {changes[0]}{more}" if changes else "made"
