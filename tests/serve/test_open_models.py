"""Several models in one server; adapters on one set of weights."""

import asyncio
from pathlib import Path

import pytest

from gpt.catalog.open_model import open_model
from gpt.model.config import ModelConfig
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig
from gpt.serve.open_models import open_models
from gpt.tokenizer.tokenizer import Tokenizer
from tests.catalog.test_adapters import write_adapter
from tests.generate.tiny_checkpoint import save_tiny
from tests.serve.asgi_caller import Caller, alone, serving

DIALS = {"max_tokens": 24, "temperature": 0.8}


@pytest.fixture
def root(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """models/ with pretrain, another stage, and two adapters of pretrain."""
    root = tmp_path / "models"
    save_tiny(root / "pretrain/checkpoint", modern, tokenizer)
    save_tiny(root / "scale-dense/checkpoint", modern, tokenizer, seed=9)
    write_adapter(root / "finetune/adapter", root, seed=2)
    write_adapter(tmp_path / "polite", root, seed=3)
    return root


def test_adapters_share_their_base_and_each_speaks_as_alone(root: Path, tmp_path: Path) -> None:
    """Guards: a second copy of the base; an adapter that acts in a neighbour's step, or on the base. Four
    models run at once and are stepped in turn."""
    references = [str(root / "finetune/adapter"), "pretrain", "scale-dense", str(tmp_path / "polite")]
    models = open_models(references, root=root)
    assert [opened.name for opened in models] == ["finetune-adapter", "pretrain", "scale-dense", "polite"]
    tuned, base, other, polite = models
    assert tuned.model is base.model is polite.model
    assert other.model is not base.model
    assert len({opened.sha256 for opened in models}) == 4
    expected = {
        opened.name: [alone(opened, "Shall I", **DIALS, seed=i) for i in range(3)]
        for opened in (open_model(reference, root=root) for reference in references)
    }
    assert len({texts[0] for texts in expected.values()}) == 4

    async def scene() -> None:
        async with serving(*models) as app:
            callers = {
                name: [Caller(app, prompt="Shall I", model=name, seed=i, **DIALS) for i in range(3)]
                for name in expected
            }
            silent = Caller(app, prompt="Shall I", seed=0, **DIALS)
            for name, own in callers.items():
                for caller, text in zip(own, expected[name], strict=True):
                    await caller.end()
                    assert caller.json["model"] == name
                    assert caller.json["choices"][0]["text"] == text
            await silent.end()
            assert silent.json["model"] == "finetune-adapter"  # the first is the one that is not named
            for name, texts in expected.items():
                made = await app.state.engines.call(name, lambda opened: alone(opened, "Shall I", **DIALS))
                assert made == texts[0]
            cards = Caller(app, "/v1/models", "GET")
            await cards.end()
            assert [(card["id"], card["parent"]) for card in cards.json["data"]] == [
                ("finetune-adapter", "pretrain"),
                ("pretrain", None),
                ("scale-dense", None),
                ("polite", "pretrain"),
            ]

    asyncio.run(scene())


def test_adapters_without_their_base_share_it_too(root: Path, tmp_path: Path) -> None:
    """Guards: the base opened for each of them; one that acts on while the other speaks."""
    references = [str(root / "finetune/adapter"), str(tmp_path / "polite")]
    models = open_models(references, root=root)
    assert models[0].model is models[1].model
    expected = [alone(open_model(reference, root=root), "a", **DIALS) for reference in references]

    async def scene() -> None:
        async with serving(*models) as app:
            for opened, text in zip(models * 2, expected * 2, strict=True):
                caller = Caller(app, prompt="a", model=opened.name, seed=0, **DIALS)
                await caller.end()
                assert caller.json["choices"][0]["text"] == text

    asyncio.run(scene())


def test_a_base_in_another_precision_is_not_shared(root: Path) -> None:
    """Guards: a QLoRA adapter on a base that it did not learn on."""
    write_adapter(root / "finetune/adapter", root, precision="bf16")
    base, tuned = open_models(["pretrain", str(root / "finetune/adapter")], root=root)
    assert tuned.model is not base.model
    assert tuned.info["base_precision"] == "bf16"


def test_one_name_twice_is_refused(root: Path) -> None:
    """Guards: two models of one name, of which requests reach one."""
    twice = open_models(["pretrain"], root=root) * 2
    with pytest.raises(ValueError, match="model: 'pretrain' is given twice"):
        create_app(twice, ServeConfig())
    with pytest.raises(ValueError, match="models: none is given"):
        create_app([], ServeConfig())
    with pytest.raises(ValueError, match="did you mean pretrain"):
        open_models(["pretrian"], root=root)
