"""`rawgpt doctor`: is this machine ready, and if not, what to type. It reports; it changes nothing."""

import json
import shutil
import textwrap
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated

from typer import Option

from rawgpt.check import Check
from rawgpt.check_data import check_mirror, check_sets
from rawgpt.check_int4 import check_int4
from rawgpt.check_machine import check_disk, check_memory, check_packages, check_python, check_torch
from rawgpt.check_services import check_dvc, check_git, check_mlflow, check_prefect
from rawgpt.exit_codes import EXIT_GOOD, EXIT_USER

CHECKS: tuple[Callable[[], Iterable[Check]], ...] = (
    check_python,
    check_torch,
    check_int4,
    check_memory,
    check_disk,
    check_packages,
    check_mirror,
    check_sets,
    check_mlflow,
    check_prefect,
    check_git,
    check_dvc,
)


def doctor(as_json: Annotated[bool, Option("--json", help="Print a JSON list of checks.")] = False) -> int:
    """Check this machine: Python, torch, devices, packages, data, services, repository.

    Each line is ok, warn (it works, or something optional is missing) or fail, with what to type. The exit
    code is 1 if a line says fail.
    """
    with ThreadPoolExecutor() as pool:  # most of them wait: for a server, for the registry, for git
        checks = [check for found in pool.map(lambda look: list(look()), CHECKS) for check in found]
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        print(table(checks, shutil.get_terminal_size().columns))
    return EXIT_USER if any(check.status == "fail" for check in checks) else EXIT_GOOD


def table(checks: list[Check], columns: int) -> str:
    """Return a line for each check, wrapped to `columns` under its own detail; a command is never cut."""
    width = max(len(check.name) for check in checks)
    indent = " " * (6 + width + 2)
    lines = []
    for check in checks:
        text = f"{check.status:4}  {check.name:{width}}  {check.detail}"
        lines += textwrap.wrap(text, columns, subsequent_indent=indent, break_on_hyphens=False)
        if check.remedy:
            together = f"{lines[-1]} -> {check.remedy}"
            lines[-1:] = [together] if len(together) <= columns else [lines[-1], f"{indent}-> {check.remedy}"]
    return "\n".join(lines)
