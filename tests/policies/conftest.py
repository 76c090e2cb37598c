"""One world, one operator process and one stage for all stories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policies.operator_process import OperatorProcess
from policies.stage import Stage
from world import cluster


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with cluster.run(num_nodes=0) as world:
        operator = OperatorProcess(world.server, tmp_path_factory.mktemp("operator"))
        try:
            yield Stage(world, operator)
        finally:
            operator.stop()
