"""GPTQModel on a folder of benchmarks/quantization.py: model/ and calibration.json in, out/ out.

python benchmarks/gptqmodel_peer.py FOLDER GROUP_SIZE        (in an environment of its own, no house import)
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Quantize to 4 bits, symmetric, activation order; everything else is GPTQModel's default."""
    from gptqmodel import GPTQModel, QuantizeConfig

    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    folder, group_size = Path(sys.argv[1]), int(sys.argv[2])
    rows = json.loads((folder / "calibration.json").read_text())
    calibration = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    config = QuantizeConfig(bits=4, group_size=group_size, sym=True, desc_act=True)
    model = GPTQModel.load(str(folder / "model"), config, device="cpu")
    model.quantize(calibration, batch_size=1)
    model.save(str(folder / "out"))


if __name__ == "__main__":
    main()
