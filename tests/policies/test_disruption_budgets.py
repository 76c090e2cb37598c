"""PodDisruptionBudgets of Kubernetes hold for whole gangs: all pods of a gang stop, so all of them count.

After kube-scheduler's preemption (docs/concepts/scheduling-eviction/pod-priority-preemption: budgets are honoured there
as far as it goes, and broken otherwise), Kubernetes' own cases of budgets (e2e/apps/disruption.go), and Volcano's pdb
plugin. It differs: a budget is never broken for another job; who waits for it is told its name and numbers.
"""

from __future__ import annotations

import pytest

from policies.lines import budget, job, lost_its_place, nodes, queue, run, runs, some_run, submit, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies

STORIES = {
    "a gang that a budget protects stays, and the waiting job is told which": [
        nodes("a"),
        submit(job("low")),
        runs("low"),
        budget("guard", "low", keeps=1),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", says="guard", blockers="low"),
        undisturbed("low"),
        budget("guard", "low", keeps=0),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "another gang leaves instead": [
        nodes("a", "b"),
        submit(job("kept"), job("other", priority="high")),
        run("kept other"),
        budget("guard", "kept", keeps=1),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        lost_its_place("other", to="vip"),
        undisturbed("kept"),
    ],
    "a gang of two needs leave for both": [
        nodes("a", "b"),
        submit(job("gang", pods=2)),
        runs("gang"),
        budget("guard", "gang", keeps=1),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", says="guard"),
        undisturbed("gang"),
    ],
    "of several gangs under one budget only as many leave as it allows": [
        nodes("a", "b"),
        submit(job("one"), job("two")),
        run("one two"),
        budget("guard", "one two", keeps=1),
        submit(job("vip-1", priority="urgent"), job("vip-2", priority="urgent")),
        runs("vip-1"),
        some_run("one two", 1),
        waits("vip-2", "WaitingForCapacity"),
    ],
    "reclaimed quota is no exception": [
        nodes("a"),
        queue("org", teams=""),
        queue("red", parent="org", owns=0),
        queue("blue", parent="org", owns=4),
        submit(job("borrower", team="red")),
        runs("borrower"),
        budget("guard", "borrower", keeps=1),
        submit(job("mine", team="blue")),
        waits("mine", "WaitingForQuota", blockers="borrower"),
        undisturbed("borrower"),
        budget("guard", "borrower", keeps=0),
        runs("mine"),
        lost_its_place("borrower", to="mine"),
    ],
    "maxUnavailable 0, as platform teams write it, keeps a gang": [
        nodes("a"),
        submit(job("low")),
        runs("low"),
        budget("guard", "low", loses=0),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", says="guard", blockers="low"),
        undisturbed("low"),
        budget("guard", "low", loses=1),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "maxUnavailable 1 lets a gang of one leave, and none of two": [
        nodes("a", "b", "c"),
        submit(job("pair", pods=2), job("one")),
        run("pair one"),
        budget("guard-pair", "pair", loses=1),
        budget("guard-one", "one", loses=1),
        submit(job("vip-1", priority="urgent"), job("vip-2", priority="urgent")),
        runs("vip-1"),
        lost_its_place("one", to="vip-1"),
        waits("vip-2", "WaitingForCapacity", says="guard-pair"),
        undisturbed("pair"),
    ],
    "of a gang of two, half of which must stay, none leaves": [
        nodes("a", "b"),
        submit(job("pair", pods=2)),
        runs("pair"),
        budget("guard", "pair", keeps="50%"),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", says="guard"),
        undisturbed("pair"),
        budget("guard", "pair", keeps="0%"),
        runs("vip"),
        lost_its_place("pair", to="vip"),
    ],
    "of two gangs, half of whose pods must stay, one leaves": [
        nodes("a", "b"),
        submit(job("one"), job("two")),
        run("one two"),
        budget("guard", "one two", keeps="50%"),
        submit(job("vip-1", priority="urgent"), job("vip-2", priority="urgent")),
        runs("vip-1"),
        some_run("one two", 1),
        waits("vip-2", "WaitingForCapacity", says="guard"),
    ],
    "an elastic gang counts with its preferred size, also while it runs at another": [
        nodes("a"),
        submit(job("elastic", pods=2, elastic={"minNodes": 1})),
        runs("elastic", pods=1),
        budget("guard", "elastic", loses=1),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", says="guard"),
        undisturbed("elastic"),
        budget("guard", "elastic", loses=2),
        runs("vip"),
        lost_its_place("elastic", to="vip"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_disruption_budgets(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
