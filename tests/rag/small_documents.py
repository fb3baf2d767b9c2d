"""Documents small enough to read here, and an index of them."""

from gpt.rag.config import ChunkConfig, IndexConfig
from gpt.rag.index import Index, build_index
from gpt.rag.passages import Document

TEXTS = {
    "refunds.md": "# Refunds\n\nA refund takes three days. It goes back to the card that paid.\n\n"
    "A failed UPI payment is returned within five days.",
    "cards.txt": "A blocked card is opened again at any branch.\nBring a passport. The fee is 200 rupees.",
    "hindi.txt": "मेरा भुगतान अटक गया है। पैसा तीन दिन में वापस आएगा।",
    "notes.jsonl#a": "Loans are paid back in twelve months.",
}
DOCUMENTS = [Document(id=name, text=text) for name, text in TEXTS.items()]
CHUNK = ChunkConfig(max_tokens=12, overlap_tokens=4)
CONFIG = IndexConfig(dims=256, n_candidates=4)


def count_words(text: str) -> int:
    """Count what stands between white space: a tokenizer for tests."""
    return len(text.split())


def small_index(config: IndexConfig = CONFIG, documents: list[Document] = DOCUMENTS) -> Index:
    """Return the index of the small documents."""
    return build_index(documents, CHUNK, config, count_tokens=count_words, model="none")
