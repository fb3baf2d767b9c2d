"""documents.jsonl: the cleaned corpus, one JSON object a line with id, text and split."""

import json
from pathlib import Path

Document = dict[str, str]


def read_split(files: Path, split: str) -> list[Document]:
    """Return the documents of one split of a fetch folder.

    Raises ValueError with file and line for a broken line, and when the split is empty.
    """
    path = files / "documents.jsonl"
    documents = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                document = json.loads(line)
                if document["split"] == split:
                    documents.append({"id": document["id"], "text": document["text"], "split": split})
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}:{number}: not a document; run `dvc repro -f fetch`") from None
    if not documents:
        raise ValueError(f"{path}: no document in split {split!r}; change fetch.val_fraction or add text")
    return documents
