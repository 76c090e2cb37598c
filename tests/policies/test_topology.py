"""Topology: gangs stay together as far as they ask, and say which domain is too small where they cannot.

After Kueue's topology-aware scheduling (KEP 2724: required, preferred and sliced pod sets), KAI's docs/topology
(multilevel, segments, allocate_topology_test) and Volcano's network topology (test/e2e/hypernode: hard and soft mode).
They differ: Kueue and KAI take the domain that fits by a rule of thumb; ours is part of the plan, so a gang that
requires a rack finds one whenever one is free, and leaves the others whole.
"""

from __future__ import annotations

import pytest

from policies.lines import edits, ends, has_run, job, lost_its_place, nodes, run, runs, submit, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
ON = "kubernetes.io/hostname"
RACK = {"level": "rack", "mode": "Required"}
RATHER_RACK = {"level": "rack", "mode": "Preferred"}
IN_B = {"topology.stowplan.dev/rack": "b"}
TWO_RACKS = [nodes("a1", "a2", rack="a"), nodes("b1", "b2", rack="b")]

STORIES = {
    "a gang that requires one rack stands in one, and not in the rest of two": [
        *TWO_RACKS,
        submit(job("small")),
        runs("small"),
        submit(job("gang", pods=2, topology=RACK)),
        runs("gang", on="b1 b2", domains="z1/b"),
    ],
    "two gangs stand in a rack each": [
        *TWO_RACKS,
        submit(job("one", pods=2, topology=RACK), job("two", pods=2, topology=RACK)),
        run("one two"),
        runs("one", domains="z1/a"),
        runs("two", domains="z1/b"),
    ],
    "room in two racks is no room for a gang that requires one": [
        nodes("a1", "a2", rack="a"),
        nodes("b1", "b2", "b3", rack="b"),
        submit(
            job("left", priority="urgent", nodeSelector={ON: "a1"}),
            job("right", priority="urgent", pods=2, topology=RACK, nodeSelector=IN_B),
        ),
        run("left right"),
        submit(job("gang", pods=2, topology=RACK)),
        waits("gang", "TopologyUnsatisfied", pods_needed=2, pods_fitting=1, best_domain_pods=1),
        ends("left"),
        runs("gang", on="a1 a2"),
    ],
    "it starts at once when its owner only prefers the rack": [
        nodes("a1", rack="a"),
        nodes("b1", rack="b"),
        submit(job("gang", pods=2, topology=RACK)),
        waits("gang", "TopologyUnsatisfied", pods_needed=2),
        edits("gang", topology=RATHER_RACK),
        runs("gang", on="a1 b1", domains="z1/a z1/b"),
    ],
    "a gang that is larger than every rack never fits, and is told so at once": [
        *TWO_RACKS,
        submit(job("gang", pods=3, topology=RACK)),
        waits("gang", "TopologyUnsatisfied", pods_needed=3, best_domain_pods=2, says="rack"),
    ],
    "a gang that prefers one rack stands in one where it can": [
        *TWO_RACKS,
        submit(job("small")),
        runs("small"),
        submit(job("gang", pods=2, topology=RATHER_RACK)),
        runs("gang", domains="z1/b"),
    ],
    "and in two where it must": [
        *TWO_RACKS,
        submit(job("gang", pods=3, topology=RATHER_RACK)),
        runs("gang", pods=3, domains="z1/a z1/b"),
    ],
    "without a wish a gang spans as few racks as it can": [
        *TWO_RACKS,
        submit(job("small"), job("gang", pods=2)),
        run("small gang"),
        runs("gang", domains="z1/b"),
    ],
    "small jobs go where a rack is already in use": [
        *TWO_RACKS,
        submit(job("one")),
        runs("one"),
        submit(job("two")),
        run("one two"),
        submit(job("gang", pods=2, topology=RACK)),
        runs("gang"),
    ],
    "one node is the narrowest level": [
        nodes("a", "b"),
        submit(job("half", gpus=2)),
        runs("half", on="a"),
        submit(job("pair", pods=2, gpus=2, topology={"level": "node", "mode": "Required"})),
        runs("pair", on="b"),
    ],
    "a zone holds what no rack holds": [
        *TWO_RACKS,
        nodes("c1", rack="c", zone="z2"),
        submit(job("gang", pods=4, topology={"level": "zone", "mode": "Required"})),
        runs("gang", on="a1 a2 b1 b2"),
    ],
    "equal rack names in two zones are two racks": [
        nodes("a1", rack="r", zone="z1"),
        nodes("b1", rack="r", zone="z2"),
        submit(job("gang", pods=2, topology=RACK)),
        waits("gang", "TopologyUnsatisfied", best_domain_pods=1),
    ],
    "slices stand in one rack each, though the whole gang does not": [
        nodes("a1", "a2", "a3", rack="a"),
        nodes("b1", "b2", "b3", rack="b"),
        submit(job("gang", pods=4, topology={**RACK, "sliceSize": 2})),
        runs("gang", domains="z1/a z1/b", pods=4),
    ],
    "a slice is not cut where only whole ones help": [
        nodes("a1", "a2", "a3", rack="a"),
        nodes("b1", rack="b"),
        submit(job("gang", pods=4, topology={**RACK, "sliceSize": 2})),
        waits("gang", "TopologyUnsatisfied", pods_needed=4),
    ],
    "nodes without the level's label are not used where it is required": [
        nodes("a1", "a2"),
        submit(job("gang", pods=2, topology=RACK)),
        waits("gang", "TopologyUnsatisfied", says="rack"),
    ],
    "a level that the cluster does not have is named beside those that it has": [
        nodes("a1", rack="a"),
        submit(job("gang", topology={"level": "row", "mode": "Required"})),
        waits("gang", "Misconfigured", says="row"),
        edits("gang", topology=RACK),
        runs("gang"),
    ],
    "who must have one rack evicts in one rack only, where that loses the least": [
        *TWO_RACKS,
        submit(*(job(f"on-{name}", nodeSelector={ON: name}) for name in ("a1", "a2", "b1", "b2"))),
        run("on-a1 on-a2 on-b1 on-b2"),
        has_run("on-a1", seconds=900),
        submit(job("vip", pods=2, priority="urgent", topology=RACK)),
        runs("vip", on="b1 b2"),
        lost_its_place("on-b1", to="vip"),
        lost_its_place("on-b2", to="vip"),
        undisturbed("on-a1 on-a2"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_topology(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
