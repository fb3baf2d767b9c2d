"""Stage package: the quantized checkpoint as an enclave image, measured. `python -m stages.package --help`.

Without the Debian packages (no network, no mirror) it writes the payload and its hash, says why, and ends
well.
"""

import sys
from typing import Any

import gpt.corpus.debian_source  # noqa: F401 - imported late by the registry; here, so that its code is hashed
from gpt.corpus import registry
from gpt.enclave.config import PackageConfig
from gpt.enclave.image import NOTE, build_image, build_payload, check_guest
from stages.outputs import write_json
from stages.runner import StageRun, stage


@stage(config=PackageConfig, inputs=("checkpoint",))
def package(config: PackageConfig, run: StageRun) -> dict[str, Any]:
    """Write image/rawgpt.eif (or image/payload.cpio.gz) and image/measurement.json."""
    checkpoint = run.inputs["checkpoint"]
    weights_bytes = check_guest(checkpoint)
    registry.describe(config.kernel)  # a misspelt kernel is the user's mistake, not an absent source
    try:
        built = build_image(config, checkpoint, registry.fetch, weights_bytes=weights_bytes)
    except registry.SourceUnavailable as error:
        print(f"package: no EIF, only the payload: {error}", file=sys.stderr)
        built = build_payload(config, checkpoint, str(error))
    image, measurement = run.out / "image", built.measurement
    image.mkdir()
    (image / built.file_name).write_bytes(built.data)
    write_json(image / "measurement.json", measurement)
    common = {"has_eif": measurement["eif"] is not None, "booted": False, "note": NOTE}
    common["payload_sha384"] = measurement["payload_sha384"]
    if measurement["eif"] is None:
        return common | {"why_no_eif": measurement["why_no_eif"]}
    return common | {
        "eif_bytes": len(built.data),
        "min_memory_mib": measurement["min_memory_mib"],
        "packages": len(measurement["packages"]),
        **measurement["pcrs"],
    }


if __name__ == "__main__":
    raise SystemExit(package.main())
