"""ladder: the teaching models on characters, bigram to block, compared on one text."""

import csv

from gpt.corpus.documents import read_split
from gpt.train.climb import LadderConfig, climb
from stages.machine import prepare_machine
from stages.runner import StageRun, stage

COLUMNS = ("rung", "step", "loss", "val_loss")


@stage(config=LadderConfig, inputs=("files",))
def ladder(config: LadderConfig, run: StageRun) -> dict[str, float]:
    """Train every rung with the one loop; write the curves side by side."""
    device = prepare_machine(run.machine)
    files = run.inputs["files"]
    train, val = ("\n".join(d["text"] for d in read_split(files, split)) for split in ("train", "val"))
    scores, rows = climb(train, val, config, sink=run.sink, device=device, resume_dir=run.resume_dir)
    with (run.out / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return scores


if __name__ == "__main__":
    raise SystemExit(ladder.main())
