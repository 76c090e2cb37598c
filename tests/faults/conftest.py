"""One world and one operator for all fault tests.

`STOWPLAN_FAULTS=all` (make test-faults) runs the whole matrix; otherwise a sample of it runs, spread evenly.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from faults.operators import Operator
from faults.runner import Runner
from world import cluster


@pytest.fixture(scope="session")
def world() -> Iterator[cluster.World]:
    with cluster.run() as started:
        yield started


@pytest.fixture(scope="session")
def runner(world: cluster.World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder: pathlib.Path = tmp_path_factory.mktemp("operator")
    operator = Operator(world.server, folder)
    yield Runner(world, operator)
    operator.close()
