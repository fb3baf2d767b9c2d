"""GPTQModel on a folder of benchmarks/quantization.py: model/ and calibration.json in, <dials>/ out.

python benchmarks/gptqmodel_peer.py FOLDER GROUP_SIZE DIALS  (in an environment of its own, no house import)
"""

import argparse
import json
from pathlib import Path

DIALS = {
    "defaults": {},
    "like-ours": {"desc_act": True, "static_groups": True, "mse": 2.0, "damp_percent": 0.01},
}
"""Its own defaults (columns in order of activation within groups), and what comes nearest to ours."""


def main() -> None:
    """Quantize to 4 bits, symmetric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("group_size", type=int)
    parser.add_argument("dials", choices=DIALS)
    arguments = parser.parse_args()
    from gptqmodel import GPTQModel, QuantizeConfig

    folder, group_size = arguments.folder, arguments.group_size
    rows = json.loads((folder / "calibration.json").read_text())
    calibration = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    config = QuantizeConfig(bits=4, group_size=group_size, sym=True, **DIALS[arguments.dials])
    model = GPTQModel.load(str(folder / "model"), config, device="cpu")
    model.quantize(calibration, batch_size=1)
    model.save(str(folder / arguments.dials))


if __name__ == "__main__":
    main()
