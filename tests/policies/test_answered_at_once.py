"""Who can never run is told so by the first thing that is ever written of his job, one planner cycle after `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies.lines import job, nodes, queue, runs, submit
from policies.stage import Json, Stage
from policies.stories import play

pytestmark = pytest.mark.policies
# One cycle takes a fifth of a second on a quiet machine, with a debounce of a twentieth.
LIMIT_SECONDS = 5.0

CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "more pods than the cluster holds": ("ExceedsClusterCapacity", {"pods": 3}),
    "more accelerators than any node has": ("ExceedsClusterCapacity", {"gpus": 5}),
    "a product that nobody has": ("NoMatchingAccelerator", {"accelerators": [{"product": "NVIDIA-B200"}]}),
    "a label that no node carries": ("NoMatchingAccelerator", {"nodeSelector": {"disk": "fast"}}),
    "a gang that no rack holds": (
        "TopologyUnsatisfied",
        {"pods": 2, "topology": {"level": "rack", "mode": "Required"}},
    ),
    "a level that there is not": ("Misconfigured", {"topology": {"level": "row", "mode": "Required"}}),
    "a PriorityClass that there is not": ("Misconfigured", {"priority": "mistyped"}),
    "a queue that there is not": ("Misconfigured", {"queue": "mistyped"}),
    "more than the queue may ever use": ("ExceedsQuota", {"team": "red", "pods": 2}),
}


@pytest.fixture(scope="module")
def two_racks(stage: Stage) -> Stage:
    """Two nodes in a rack each, and a queue that owns one of them."""
    racks = [nodes("a", rack="a"), nodes("b", rack="b"), queue("red", owns=4)]
    play(stage, "two racks, and a solver that has been loaded", [*racks, submit(job("one")), runs("one")])
    return stage


@pytest.mark.parametrize("sentence", CASES)
def test_answered_at_once(two_racks: Stage, sentence: str) -> None:
    reason, fields = CASES[sentence]
    team, body = job(sentence.replace(" ", "-").lower(), **fields)
    name = body["metadata"]["name"]
    two_racks.submit((team, body), in_order=False)
    two_racks.world.wait("something is said of it", lambda: two_racks.status(name))
    told = two_racks.history_of(name)
    first: Json = told[1].object["status"]
    assert first["decision"]["reason"] == reason, first["decision"]
    admitted = {one["type"]: one for one in first["conditions"]}["Admitted"]
    assert (admitted["status"], admitted["reason"]) == ("False", reason)
    assert told[1].at - told[0].at < LIMIT_SECONDS
