"""One world, one operator process and one stage for all stories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policies.operator_process import OperatorProcess
from policies.stage import Stage
from policies.stories import settings_of
from world import cluster

# Every wait of a story has its own limit, which tells more than this one.
STORY_SECONDS = 600


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with cluster.run(num_nodes=0) as world:
        operator = OperatorProcess(world.server, tmp_path_factory.mktemp("operator"))
        try:
            yield Stage(world, operator)
        finally:
            operator.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stories of the same settings follow each other: for others a new operator is started, which takes seconds."""
    items.sort(key=_settings)
    for item in items:
        item.add_marker(pytest.mark.timeout(STORY_SECONDS))


def _settings(item: pytest.Item) -> str:
    module = getattr(item, "module", None)
    called = getattr(item, "callspec", None)
    story = getattr(module, "STORIES", {}).get(called.params.get("sentence"), ()) if called else ()
    found = settings_of(story) or getattr(module, "SETTINGS", {})
    return repr(sorted(found.items())) if found else ""
