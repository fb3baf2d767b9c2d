"""Ranks that the modules here share: to start them costs more than most tests."""

from collections.abc import Iterator

import pytest

from gpt.parallel.process_group import ProcessGroup, open_group
from tests.distributed import Ranks


@pytest.fixture(scope="package")
def one() -> ProcessGroup:
    return open_group("gloo")


@pytest.fixture(scope="package")
def two() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.end()


@pytest.fixture(scope="package")
def four() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.end()
