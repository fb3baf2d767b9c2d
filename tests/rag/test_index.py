"""Search against brute force, the folder against its hashes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt.rag.config import ChunkConfig, IndexConfig
from gpt.rag.index import Index, fuse_ranks, open_index, save_index, what_changed
from gpt.rag.passages import Document, read_folder
from gpt.rag.sketch import Sketch
from tests.rag.small_documents import CHUNK, CONFIG, DOCUMENTS, TEXTS, small_index
from tests.tolerances import TOLERANCE

QUESTIONS = ["How long does a refund take?", "What is the fee for a blocked card?", "पैसा वापस", "zzz"]


def many() -> list[Document]:
    """Return 300 documents of drawn words."""
    rng = np.random.default_rng(0)
    return [Document(id=f"d{i}", text=" ".join(f"w{n}" for n in rng.zipf(1.3, 9) % 500)) for i in range(300)]


def test_dense_search_is_brute_force() -> None:
    """Guards: an inner product taken for a distance, vectors that moved among the passages."""
    index = small_index(replace(CONFIG, ranking="dense"), many())
    vectors = index.embedder.passages([passage.text for passage in index.passages])  # (N, d)
    for question in ("w1 w7 w30", "w2 w3"):
        expected = vectors @ index.embedder.question(question)
        numbers, scores = index.dense(question, 10)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][:10], atol=TOLERANCE["faiss_vs_numpy"])
        np.testing.assert_allclose(scores, expected[numbers], atol=TOLERANCE["faiss_vs_numpy"])


def test_the_graph_finds_what_the_scan_finds() -> None:
    """Guards: a graph of distances over inner products, or built with too few links to be of use."""
    scan, graph = (small_index(replace(CONFIG, kind=kind), many()) for kind in ("flat", "hnsw"))
    shared = [
        len({*scan.dense(f"w{i} w{i + 1}", 10)[0]} & {*graph.dense(f"w{i} w{i + 1}", 10)[0]})
        for i in range(1, 41)
    ]
    assert np.mean(shared) >= 9


def test_a_sketch_estimates_bm25() -> None:
    """Guards: signs or places that passages and questions disagree about. Wide enough to have no collision,
    the sketch's inner product is BM25's score itself; narrower ones are further from it."""
    index = small_index()
    errors = []
    for dims in (1 << 20, 2048, 64):
        sketch = Sketch(index.bm25, dims)
        vectors = sketch.passages([passage.text for passage in index.passages])
        made = [vectors @ sketch.question(q) - index.bm25.scores(q) for q in QUESTIONS]
        errors.append(float(np.square(made).mean()))
    assert errors[0] < TOLERANCE["faiss_vs_numpy"] ** 2 < errors[1] < errors[2]


@pytest.mark.parametrize("ranking", ["dense", "bm25", "rerank", "fusion"])
def test_every_ranking_finds_the_obvious(ranking: str) -> None:
    """Guards: a ranking upside down."""
    index = small_index(replace(CONFIG, ranking=ranking))  # type: ignore[arg-type]
    best = index.search("What is the fee for a blocked card?", 3)[0]
    assert best.passage.document == "cards.txt"
    assert index.search("पैसा वापस", 1)[0].passage.document == "hindi.txt"
    assert 0 < best.coverage <= 1
    assert len(index.search("anything", 99)) <= len(index.passages)


def test_rerank_is_bm25_among_the_candidates() -> None:
    """Guards: candidates that are never looked at again; with all of them the order is BM25's."""
    config = replace(CONFIG, n_candidates=400)
    index = small_index(config, many())
    exact = replace(index, config=replace(config, ranking="bm25"))
    for question in ("w1 w7 w30", "w2 w3 w9"):
        assert [f.number for f in index.search(question, 20)] == [
            f.number for f in exact.search(question, 20)
        ]


def test_fusion_by_hand() -> None:
    """Guards: ranks from 0. Second and first give 1/62 + 1/61; only first 1/61; third place alone 1/63."""
    fused = fuse_ranks([np.array([2, 0, 1]), np.array([0])], 4)
    np.testing.assert_allclose(fused, [1 / 62 + 1 / 61, 1 / 63, 1 / 61, 0])


def test_save_open_search(tmp_path: Path) -> None:
    """Guards: an index that reads back as another one, or whose bytes differ from run to run."""
    for kind in ("flat", "hnsw"):
        index = small_index(replace(CONFIG, kind=kind))  # type: ignore[arg-type]
        save_index(index, tmp_path / kind)
        again = open_index(tmp_path / kind)
        assert again.passages == index.passages
        for question in QUESTIONS:
            assert again.search(question, 4) == index.search(question, 4)
        first = {path.name: path.read_bytes() for path in (tmp_path / kind).iterdir()}
        save_index(small_index(replace(CONFIG, kind=kind)), tmp_path / kind)  # type: ignore[arg-type]
        assert first == {path.name: path.read_bytes() for path in (tmp_path / kind).iterdir()}


@pytest.mark.parametrize("name", ["passages.jsonl", "lexicon.safetensors", "vectors.faiss", "index.json"])
def test_a_damaged_index_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Guards: FAISS reading flipped bytes; passages of another index."""
    save_index(small_index(), tmp_path / "index")
    path = tmp_path / "index" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        open_index(tmp_path / "index")
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}: missing"):
        open_index(tmp_path / "index")


def test_no_index_says_what_to_type(tmp_path: Path) -> None:
    """Guards: a FileNotFoundError of FAISS."""
    with pytest.raises(ValueError, match=r"no index; `rawgpt ask QUESTION --documents FOLDER`"):
        open_index(tmp_path)


def test_every_change_is_noticed(tmp_path: Path) -> None:
    """Guards: an answer cited from a text that is not there any more."""
    folder = tmp_path / "index"
    assert what_changed(folder, DOCUMENTS, CHUNK, CONFIG, "none") == []
    save_index(small_index(), folder)
    assert what_changed(folder, DOCUMENTS, CHUNK, CONFIG, "none") == []
    changed = [
        Document(id="cards.txt", text=TEXTS["cards.txt"] + "!"),
        *DOCUMENTS[2:],
        Document(id="x", text="x"),
    ]
    expected = ["x is new", "refunds.md is gone", "cards.txt changed"]
    assert what_changed(folder, changed, CHUNK, CONFIG, "none") == expected
    others: list[tuple[ChunkConfig, IndexConfig, str]] = [
        (ChunkConfig(max_tokens=13, overlap_tokens=4), CONFIG, "none"),
        (CHUNK, replace(CONFIG, b=0.5), "none"),
        (CHUNK, CONFIG, "another"),
    ]
    for chunk, config, model in others:
        assert what_changed(folder, DOCUMENTS, chunk, config, model) == ["the dials or the model are others"]


def test_wrong_folders_say_what_to_type(tmp_path: Path) -> None:
    """Guards: an index of nothing, a traceback for a Latin-1 file, a folder that fills the memory."""
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder; give a folder of .txt"):
        read_folder(tmp_path / "nowhere", text_field="text", max_mb=1)
    with pytest.raises(ValueError, match=r"holds no text; files that are read: .txt .md .jsonl"):
        read_folder(tmp_path, text_field="text", max_mb=1)
    (tmp_path / "a.txt").write_text(" \n ")
    with pytest.raises(ValueError, match=r"documents: .* holds no text; put .txt"):
        read_folder(tmp_path, text_field="text", max_mb=1)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"a.txt: not UTF-8 at byte 3 \(0xe9\); convert it: iconv"):
        read_folder(tmp_path, text_field="text", max_mb=1)
    (tmp_path / "a.txt").write_text("x" * 2001)
    with pytest.raises(ValueError, match=r"more than 0.002 million characters \(at a.txt\)"):
        read_folder(tmp_path, text_field="text", max_mb=0.002)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "x"}\n{"id": 1, "text": "y"}\n')
    with pytest.raises(ValueError, match=r"b.jsonl#1 is there twice; give each record an id"):
        read_folder(tmp_path, text_field="text", max_mb=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dims": 4}, "dims: at least 8"),
        ({"ngram_chars": 1}, "ngram_chars: 0"),
        ({"b": 1.5}, "b: 0..1"),
        ({"k1": -1.0}, "k1: must not be negative"),
        ({"max_mb": 0.0}, "max_mb: more than 0"),
        ({"n_candidates": 0}, "n_candidates: at least 1"),
    ],
)
def test_bad_dials(change: dict, message: str) -> None:
    """Guards: a dial out of range that shows as a bad score."""
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_index_is_of_its_documents() -> None:
    """Guards: hashes of something else than the text."""
    index: Index = small_index()
    assert index.facts["documents"] == {d.id: d.sha256 for d in DOCUMENTS}
