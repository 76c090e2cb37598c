"""Sizes of elastic jobs, as specs give them and as placements have them."""

from __future__ import annotations

import pytest

from fakes.builders import JobBuilder, a_job
from stowplan_operator import elastic


def an_elastic_job(nodes: int = 8, **fields: object) -> JobBuilder:
    return a_job().nodes(nodes).spec(elastic=fields)


SIZES: dict[str, tuple[JobBuilder, tuple[int, ...]]] = {
    "a job that is not elastic has its size only": (a_job().nodes(8), ()),
    "one that may only have numNodes is not elastic": (an_elastic_job(minNodes=8), ()),
    "all sizes between the bounds": (an_elastic_job(4, minNodes=2, maxNodes=6), (2, 3, 4, 5, 6)),
    "without minNodes from one pod": (an_elastic_job(4, maxNodes=5), (1, 2, 3, 4, 5)),
    "without maxNodes up to numNodes": (an_elastic_job(4, minNodes=2), (2, 3, 4)),
    "those that are listed": (an_elastic_job(allowedNodes=[2, 8, 16]), (2, 8, 16)),
    "whole slices only": (
        an_elastic_job(8, minNodes=3, maxNodes=18).spec(topology={"level": "rack", "sliceSize": 4}),
        (4, 8, 12, 16),
    ),
}


@pytest.mark.parametrize(("job", "want"), SIZES.values(), ids=SIZES)
def test_sizes(job: JobBuilder, want: tuple[int, ...]) -> None:
    assert elastic.sizes(job.parsed()) == want


def test_of_a_wide_range_the_ends_the_preferred_size_and_some_others() -> None:
    found = elastic.sizes(an_elastic_job(1000, minNodes=1, maxNodes=4096).parsed())
    assert {1, 2, 1000, 4096} <= set(found)
    assert list(found) == sorted(set(found))
    assert 20 <= len(found) <= 32


def test_a_placed_gang_has_the_pods_of_its_placement() -> None:
    job = a_job().placed_on("n1", "n1", "n2").nodes(8)
    assert elastic.num_pods(job.parsed(), job.view().status) == 3
    assert elastic.num_pods(a_job().nodes(8).parsed(), {}) == 8
