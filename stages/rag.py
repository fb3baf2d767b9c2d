"""rag: an index, whether it finds the right passage, and what that is worth to a model; off by a dial."""

from typing import Any

from gpt.catalog.open_model import open_model
from gpt.rag.config import RagConfig
from gpt.rag.illustrate import OFF, headline, illustrate
from gpt.rag.index import save_index
from stages.machine import prepare_machine
from stages.outputs import write_json
from stages.runner import StageRun, stage


@stage(config=RagConfig, inputs=("files", "model"))
def rag(config: RagConfig, run: StageRun) -> dict[str, Any]:
    """Write results.json and the index; turned off, a result that says so and an empty index folder."""
    device = prepare_machine(run.machine)
    if config.documents == "none":
        (run.out / "index").mkdir()
        write_json(run.out / "results.json", OFF)
        return headline(OFF)
    index, results = illustrate(config, run.inputs["files"], open_model(config.model, device=str(device)))
    save_index(index, run.out / "index")
    write_json(run.out / "results.json", results)
    return headline(results)


if __name__ == "__main__":
    raise SystemExit(rag.main())
