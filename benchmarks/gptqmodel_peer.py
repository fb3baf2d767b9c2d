"""GPTQModel on a folder of benchmarks/quantization.py: model/ and calibration.json in, out/ out.

python benchmarks/gptqmodel_peer.py FOLDER GROUP_SIZE        (in an environment of its own, no house import)
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Quantize to 4 bits, symmetric, activation order; everything else is GPTQModel's default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("group_size", type=int)
    arguments = parser.parse_args()
    from gptqmodel import GPTQModel, QuantizeConfig

    folder, group_size = arguments.folder, arguments.group_size
    rows = json.loads((folder / "calibration.json").read_text())
    calibration = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    config = QuantizeConfig(bits=4, group_size=group_size, sym=True, desc_act=True)
    model = GPTQModel.load(str(folder / "model"), config, device="cpu")
    model.quantize(calibration, batch_size=1)
    model.save(str(folder / "out"))


if __name__ == "__main__":
    main()
