"""`rawgpt doctor`: is this machine ready, and if not, what to type. It reports; it changes nothing."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated

from typer import Option

from rawgpt.check import Check
from rawgpt.check_data import check_mirror, check_sets
from rawgpt.check_machine import check_disk, check_memory, check_packages, check_python, check_torch
from rawgpt.check_services import check_dvc, check_git, check_mlflow, check_prefect
from rawgpt.exit_codes import EXIT_GOOD, EXIT_USER

CHECKS: tuple[Callable[[], Iterable[Check]], ...] = (
    check_python,
    check_torch,
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
        width = max(len(check.name) for check in checks)
        for check in checks:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            print(f"{check.status:4}  {check.name:{width}}  {check.detail}{remedy}")
    return EXIT_USER if any(check.status == "fail" for check in checks) else EXIT_GOOD
