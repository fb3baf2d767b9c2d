"""The whole image from tiny packages made here, and the stage with and without its sources."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gpt.config import from_mapping
from gpt.corpus import registry
from gpt.enclave import rootfs
from gpt.enclave.config import PackageConfig
from gpt.enclave.cpio import read_cpio
from gpt.enclave.eif import Image, read_eif
from gpt.enclave.file_tree import Tree
from gpt.enclave.image import Built, build_image, build_payload, check_guest, memory_mib
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from stages.package import package
from tests.enclave.test_debian import ar
from tests.stages.machine import MACHINE

SECTION = {"image_name": "test", "image_version": "1", "kernel": "debian-linux-image-6.1-cloud"}
CONFIG = from_mapping(PackageConfig, SECTION, "package")


def small_deb(path: Path, files: dict[str, bytes]) -> Path:
    """Write a package of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(ar({"debian-binary": b"2.0\n", "data.tar": buffer.getvalue()}))
    return path


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[[str], Path]:
    """A registry of tiny packages, each with one file of its own, and a kernel with its modules."""

    def give(name: str) -> Path:
        path = tmp_path / "debs" / f"{name}.deb"
        if name == CONFIG.kernel:
            modules = rootfs.read_guest_packages().kernel_modules
            kernel = {"boot/vmlinuz-9.9-test": b"MZ kernel", "boot/config-9.9-test": b"CONFIG"}
            return small_deb(path, kernel | {f"lib/modules/9.9/k/{m}": m.encode() for m in modules})
        dropped = {f"usr/share/man/{name}.1": b"manual"}
        return small_deb(path, {f"etc/{name}": b"x", f"usr/share/doc/{name}/copyright": b"c"} | dropped)

    return give


def trees(built: Built) -> tuple[Image, list[Tree]]:
    """Return the image of a built EIF and what its ramdisks hold."""
    image = read_eif(built.data)
    return image, [read_cpio(gzip.decompress(ramdisk)) for ramdisk in image.ramdisks]


def test_layout(checkpoint: Path, fetch: Callable[[str], Path]) -> None:
    """Guards what init.c relies on: where init, modules, root, command, guest and model lie."""
    image, (first, second) = trees(build_image(CONFIG, checkpoint, fetch, weights_bytes=0))
    assert image.kernel == b"MZ kernel"
    assert first["init"].data[:4] == b"\x7fELF"
    assert first["init"].mode == 0o100755
    order = first["modules/order"].data.decode().split()
    assert [first[path[1:]].data.decode() for path in order] == [Path(path).name for path in order]
    assert order.index("/modules/vsock.ko") < order.index("/modules/vmw_vsock_virtio_transport.ko")
    for name in rootfs.read_guest_packages().packages:
        assert f"rootfs/etc/{name}" in second
        assert f"rootfs/usr/share/doc/{name}/copyright" in second
        assert f"rootfs/usr/share/man/{name}.1" not in second
    home = "rootfs/opt/rawgpt"
    for file in checkpoint.iterdir():
        assert second[f"{home}/model/{file.name}"].data == file.read_bytes()
    assert second[f"{home}/guest/__main__.py"].data == (rootfs.GUEST_DIR / "__main__.py").read_bytes()
    assert not any("__pycache__" in path for path in second)
    assert second["cmd"].data.decode().split("\n")[:4] == ["/usr/bin/python3.11", "-B", "-m", "guest"]
    assert "PYTHONPATH=/opt/rawgpt" in second["env"].data.decode().split()
    assert second["rootfs/usr/lib/x86_64-linux-gnu/libblas.so.3"].data == b"blas/libblas.so.3"
    assert second["rootfs/proc"].mode == 0o040755


def test_least_memory_by_hand() -> None:
    """Guards nitro-cli's rule, and a guest that dies on boot: 126 MiB, four times the EIF, were too few."""
    mib = 2**20
    assert memory_mib(CONFIG, 100 * mib + 1, 50 * mib, 20 * mib) == 401  # 4 x EIF, rounded up
    assert memory_mib(CONFIG, 33 * mib, 53 * mib, 2 * mib) == 2 * 53 + 2 + 128
    assert memory_mib(replace(CONFIG, memory_multiple=8.0), 33 * mib, 53 * mib, 0) == 264


def test_weights_are_counted_once(checkpoint: Path, modern: ModelConfig) -> None:
    """Guards a tied embedding counted twice: the torch model's own count is the reference."""
    assert check_guest(checkpoint) == 4 * sum(p.numel() for p in Transformer(modern).parameters())


def test_two_folders_give_the_same_file(
    tmp_path: Path, checkpoint: Path, fetch: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a time, a path or an order in the image: nobody could check a PCR by building it again."""
    first = build_image(CONFIG, checkpoint, fetch, weights_bytes=0)
    copy = shutil.copytree(checkpoint, tmp_path / "elsewhere" / "model")
    monkeypatch.chdir(copy)
    again = build_image(CONFIG, copy, fetch, weights_bytes=0)
    assert again.data == first.data
    assert again.measurement == first.measurement


def test_what_a_change_changes(checkpoint: Path, fetch: Callable[[str], Path]) -> None:
    """Guards the split of the measurements: the model is in PCR0 and PCR2, not in PCR1."""
    before = build_image(CONFIG, checkpoint, fetch, weights_bytes=0).measurement
    (checkpoint / "extra.txt").write_text("another model")
    after = build_image(CONFIG, checkpoint, fetch, weights_bytes=0).measurement
    assert {n for n in ("pcr0", "pcr1", "pcr2") if before["pcrs"][n] != after["pcrs"][n]} == {"pcr0", "pcr2"}
    assert before["payload_sha384"] != after["payload_sha384"]


def test_payload_hash_is_the_same_with_and_without_an_eif(
    checkpoint: Path, fetch: Callable[[str], Path]
) -> None:
    """Guards a degraded result that measures something else than what the image would hold."""
    whole = build_image(CONFIG, checkpoint, fetch, weights_bytes=0).measurement
    alone = build_payload(CONFIG, checkpoint, "no network")
    assert alone.measurement["payload_sha384"] == whole["payload_sha384"]
    payload = read_cpio(gzip.decompress(alone.data))
    assert payload["model/config.json"].data == (checkpoint / "config.json").read_bytes()


def run_stage(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path]:
    """Run the stage as a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    params = {"machine": MACHINE, "package": SECTION}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    out = tmp_path / "models" / "package"
    return package.main(["--checkpoint", str(checkpoint), "--out", str(out)]), out


def test_stage_writes_image_and_metrics(
    tmp_path: Path, checkpoint: Path, fetch: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards metrics that are not those of the file: PCRs are read back from it."""
    monkeypatch.setattr(registry, "fetch", fetch)
    code, out = run_stage(tmp_path, checkpoint, monkeypatch)
    assert code == 0
    data = (out / "image" / "rawgpt.eif").read_bytes()
    metrics = json.loads((out / "metrics.json").read_text())
    measurement = json.loads((out / "image" / "measurement.json").read_text())
    assert {name: metrics[name] for name in ("pcr0", "pcr1", "pcr2")} == read_eif(data).pcrs()
    assert metrics["eif_bytes"] == len(data)
    assert metrics["min_memory_mib"] == measurement["min_memory_mib"]
    assert metrics["packages"] == len(measurement["packages"]) == 13
    assert (measurement["booted"], measurement["note"]) == (False, "measured, never booted")


def test_stage_without_sources_ends_well_and_says_why(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a default run that fails offline, and one that hides that there is no image."""

    def fail(name: str) -> Path:
        raise registry.SourceUnavailable(name, [("debian x=1", "no such version")], is_passing=False)

    monkeypatch.setattr(registry, "fetch", fail)
    code, out = run_stage(tmp_path, checkpoint, monkeypatch)
    assert code == 0
    metrics = json.loads((out / "metrics.json").read_text())
    measurement = json.loads((out / "image" / "measurement.json").read_text())
    assert metrics["has_eif"] is False
    assert "pcr0" not in metrics
    assert "no such version" in metrics["why_no_eif"]
    assert metrics["why_no_eif"] == measurement["why_no_eif"]
    assert measurement["eif"] is None
    assert {path.name for path in (out / "image").iterdir()} == {"payload.cpio.gz", "measurement.json"}


def test_a_damaged_package_is_not_a_missing_one(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the degraded path against swallowing every ValueError."""
    bad = tmp_path / "bad.deb"
    bad.write_bytes(b"not a package")
    monkeypatch.setattr(registry, "fetch", lambda name: bad)
    assert run_stage(tmp_path, checkpoint, monkeypatch)[0] == 1
    assert "not a Debian package" in capsys.readouterr().err


def test_a_model_that_computes_nonsense_is_refused(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards an image around a model that answers NaN."""
    monkeypatch.setattr("gpt.enclave.guest.model.Model.last_logits", lambda *_: float("nan") * rootfs.PORT)
    with pytest.raises(ValueError, match="not finite"):
        check_guest(checkpoint)


def test_the_guests_packages_are_in_the_registry() -> None:
    """Guards a name in guest_packages.yaml that the registry does not pin."""
    for name in (*rootfs.read_guest_packages().packages, CONFIG.kernel):
        entry = registry.describe(name)
        kinds = [next(k for k in ("mirror", "debian", "url") if getattr(s, k)) for s in entry.sources]
        assert kinds == ["mirror", "debian", "url", "url"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("memory_multiple", 3.5, "package.memory_multiple: nitro-cli needs at least 4.0, got 3.5"),
        ("compression_level", 0, "package.compression_level: 1 to 9, got 0"),
        ("cmdline", "a\nb", "package.cmdline: printable ASCII"),
        ("compression", "zstd", "package.compression: got 'zstd'; choose one of gzip, none"),
    ],
)
def test_dials_are_checked(key: str, value: object, message: str) -> None:
    """Guards a dial that only the hypervisor would refuse."""
    with pytest.raises(ValueError, match=message):
        from_mapping(PackageConfig, SECTION | {key: value}, "package")
