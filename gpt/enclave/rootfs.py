"""The two ramdisks' contents: init with its modules, and the root file system with guest and model.

Base system, Python and NumPy come from Debian packages (guest_packages.yaml); nothing is installed, only
unpacked and chosen. Layout: nitro-cli's (init.c reads it).
"""

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from gpt.config import from_mapping
from gpt.enclave.debian import read_deb
from gpt.enclave.file_tree import Tree, file, folder, read_folder, symlink, under

PACKAGES_FILE = Path(__file__).parent / "guest_packages.yaml"
GUEST_DIR = Path(__file__).parent / "guest"
HOME = "opt/rawgpt"
PORT = 5000
COMMAND = ("/usr/bin/python3.11", "-B", "-m", "guest", "--model", f"/{HOME}/model", "--vsock", str(PORT))
ENVIRONMENT = (f"PYTHONPATH=/{HOME}", "PATH=/usr/bin", "LC_ALL=C.UTF-8", "PYTHONUNBUFFERED=1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestPackages:
    """What guest_packages.yaml says."""

    packages: tuple[str, ...]
    """Data registry entries."""
    exclude: tuple[str, ...]
    """Shell patterns of paths that are left out."""
    keep: tuple[str, ...]
    """Exceptions to `exclude`."""
    links: tuple[Link, ...]
    folders: tuple[str, ...]
    kernel_image: str
    """Shell pattern of the kernel inside its package."""
    kernel_modules: tuple[str, ...]
    """File names in loading order."""

    def wants(self, path: str) -> bool:
        """Tell whether a package's file goes into the image."""
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep):
            return True
        return not any(fnmatch.fnmatchcase(path, pattern) for pattern in self.exclude)


def read_guest_packages(path: Path = PACKAGES_FILE) -> GuestPackages:
    """Read the list strictly."""
    return from_mapping(GuestPackages, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)


def payload(checkpoint: Path) -> Tree:
    """Return guest and model as they lie below /opt/rawgpt: what is ours in the image."""
    guest = read_folder(GUEST_DIR, lambda name: name.endswith(".py"))
    return under("guest", guest) | under("model", read_folder(checkpoint))


def root_file_system(debs: Iterable[Path], packages: GuestPackages, ours: Tree) -> Tree:
    """Return the guest's root: Debian's files, the links and folders of the list, and our payload."""
    tree: Tree = {}
    for deb in debs:
        tree |= read_deb(deb, packages.wants)
    tree |= {link.path: symlink(link.target) for link in packages.links}
    tree |= {name: folder() for name in packages.folders}
    return tree | under(HOME, ours)


def second_ramdisk(root: Tree) -> Tree:
    """Return the content of ramdisk 2: the root and how it is started."""
    started = {
        "cmd": file("".join(f"{item}\n" for item in COMMAND).encode()),
        "env": file("".join(f"{item}\n" for item in ENVIRONMENT).encode()),
    }
    return under("rootfs", root) | started


def first_ramdisk(init: bytes, modules: Tree) -> Tree:
    """Return the content of ramdisk 1: init and the kernel modules, in loading order."""
    order = "".join(f"/modules/{name}\n" for name in modules)
    return (
        {"init": file(init, 0o755), "dev": folder()}
        | under("modules", modules)
        | {"modules/order": file(order.encode())}
    )


def read_kernel(deb: Path, packages: GuestPackages) -> tuple[str, bytes, Tree]:
    """Return version, bzImage and the listed modules of a Debian kernel package.

    Raises ValueError for a package without them.
    """
    names = set(packages.kernel_modules)
    tree = read_deb(deb, _kernel_filter(packages.kernel_image, names))
    images = [path for path in tree if fnmatch.fnmatchcase(path, packages.kernel_image)]
    by_name = {PurePosixPath(path).name: entry for path, entry in tree.items()}
    missing = [name for name in packages.kernel_modules if name not in by_name]
    if len(images) != 1 or missing:
        raise ValueError(f"{deb}: {len(images)} kernels, missing modules {missing}; choose another kernel")
    version = images[0].partition("vmlinuz-")[2]
    modules = {name: by_name[name] for name in packages.kernel_modules}
    return version, tree[images[0]].data, modules


def _kernel_filter(image: str, modules: set[str]) -> Callable[[str], bool]:
    return lambda path: fnmatch.fnmatchcase(path, image) or PurePosixPath(path).name in modules
