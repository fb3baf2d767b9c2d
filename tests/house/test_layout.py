"""The house rules that a parser can check: directions, file sizes, names, foreign code."""

import ast
import importlib.metadata
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = [
    ["config", "workers"],
    ["corpus", "tokenizer", "kernels", "optim", "parallel"],
    ["model", "ladder", "dataset"],
    ["checkpoint", "generate", "growth"],
    ["train", "quantize", "evaluate"],
    ["adapters"],
    ["catalog", "export"],
    ["finetune", "rag", "report"],
    ["align"],
    ["serve", "enclave"],
]
LEVEL = {package: i for i, packages in enumerate(LEVELS) for package in packages}
FOREIGN = {
    "transformers",
    "peft",
    "trl",
    "safetensors",
    "tokenizers",
    "sentencepiece",
    "bitsandbytes",
    "vllm",
}
DRAWERS = {"utils", "common", "helpers", "misc"}


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in sorted(set(names)) if name and (ROOT / name).is_file()]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # the guest is copied into the enclave image as a package of its own
            assert node.level == 0 or "guest" in path.parts, f"{path}: relative import"
            names.add(node.module or "" if node.level == 0 else "gpt.enclave.guest")
    return names


def heads(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_packages_import_only_from_lower_levels() -> None:
    """Guards: an arrow up the house, which makes a circle sooner or later."""
    wrong = []
    for path in tracked("gpt/*.py"):
        parts = path.relative_to(ROOT / "gpt").parts
        own = parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in LEVEL, f"gpt/{own} has no level: give it one in tests/house/test_layout.py"
        for name in imports(path):
            target = name.split(".")[1] if name.startswith("gpt.") else own
            if target != own and LEVEL[target] >= LEVEL[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_orchestration_stays_in_its_rooms() -> None:
    """Guards: a core that needs a scheduler, a flow that reaches around `dvc`."""
    for path in tracked("gpt/*.py"):
        assert not heads(path) & {"dvc", "prefect", "mlflow", "typer", "stages", "flows", "rawgpt"}, path
    for path in tracked("stages/*.py"):
        assert not heads(path) & {"dvc", "prefect", "typer", "flows", "rawgpt"}, path
        if not path.name.startswith("tracking"):
            assert "mlflow" not in heads(path), path
    for path in tracked("flows/*.py"):
        assert not heads(path) & {"gpt", "stages", "rawgpt", "mlflow", "dvc"}, path
    for path in tracked("rawgpt/*.py"):
        assert "stages" not in heads(path), path


def test_no_foreign_transformer_code() -> None:
    """Guards: the transformer, its tokenizer or its file format coming from somewhere else."""
    for path in tracked("gpt/*.py", "stages/*.py", "flows/*.py", "rawgpt/*.py"):
        assert not heads(path) & FOREIGN, path


def test_the_core_trains_with_torch_numpy_and_tiktoken_alone() -> None:
    """Guards: a GPU machine that has nothing else. The standard library comes with Python."""
    allowed = set(sys.stdlib_module_names) | {"torch", "triton", "numpy", "tiktoken", "gpt"}
    lazy = {
        "yaml": "gpt/config.py",
        "regex": "gpt/tokenizer/pretokenize.py",
        "gguf": "gpt/checkpoint/gguf.py",
    }
    trains = ("model", "kernels", "optim", "train", "dataset", "checkpoint", "tokenizer", "growth", "ladder")
    for package in (*trains, "adapters", "finetune", "quantize", "generate", "evaluate"):
        for path in tracked(f"gpt/{package}/*.py"):
            extra = heads(path) - allowed
            assert all(lazy.get(name) == str(path.relative_to(ROOT)) for name in extra), (path, extra)


def test_files_are_short() -> None:
    """Guards: a file that nobody reads to its end."""
    lengths = {}
    for path in tracked(
        "gpt/*.py", "stages/*.py", "flows/*.py", "rawgpt/*.py", "tests/*.py", "benchmarks/*.py", "gpt/*.c"
    ):
        lengths[path.relative_to(ROOT)] = len(path.read_text(encoding="utf-8").splitlines())
    assert not {path: n for path, n in lengths.items() if n > 300}
    assert statistics.median(n for n in lengths.values() if n > 1) <= 150


def test_no_drawers_and_no_python_beside_artefacts() -> None:
    """Guards: utils.py, and an __init__.py in mlflow/ that hides the package of that name."""
    for path in tracked("*.py"):
        assert path.stem not in DRAWERS, path
        assert path.relative_to(ROOT).parts[0] not in {"data", "models", "mlflow", "reports"}, path


def test_init_files_hold_a_docstring_only() -> None:
    """Guards: code that runs because a neighbour was imported."""
    for path in tracked("gpt/*__init__.py", "stages/__init__.py", "flows/__init__.py", "rawgpt/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_mlflow_is_the_package_and_not_the_folder() -> None:
    """Guards: `import mlflow` from the root that finds the folder of artefacts."""
    importlib.metadata.version("mlflow")
    code = "import mlflow; assert mlflow.__file__ and 'site-packages' in mlflow.__file__, mlflow"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_no_pickle_on_any_load_path() -> None:
    """Guards: a checkpoint that runs code when it is opened."""
    for path in tracked("gpt/*.py", "stages/*.py", "rawgpt/*.py"):
        assert not heads(path) & {"pickle", "dill", "joblib", "shelve"}, path
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "allow_pickle=True" not in text, path


def test_public_names_have_docstrings() -> None:
    """Guards: a function that says neither what it is nor what it raises."""
    missing = []
    for path in tracked("gpt/*.py", "stages/*.py", "flows/*.py", "rawgpt/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and not ast.get_docstring(tree):
            missing.append(str(path.relative_to(ROOT)))
        for node in tree.body:
            is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_public and not ast.get_docstring(node):  # type: ignore[arg-type]
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not missing


@pytest.mark.parametrize("pattern", ["/wo" + "rk/", "/ro" + "ot/", "/fa" + "rm/"])
def test_no_path_of_one_machine(pattern: str) -> None:
    """Guards: a commit that works on its author's machine alone."""
    found = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix not in {".png", ".lock"}
        and pattern in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert not found


def test_no_link_is_committed() -> None:
    """Guards: a link to one machine's folder, which `.gitignore`'s `name/` does not match: it replaced the
    peers' environment when it was merged."""
    command = ["git", "ls-files", "--stage"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split("\t")[1] for line in lines if line.startswith("120000")] == []
