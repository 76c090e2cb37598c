"""Fair shares: what nobody owns is divided by weight, queue by queue, whoever came first or calls himself urgent.

After KEP 1714 of Kueue (its three user stories: two teams that come one after the other, a department that shares
within itself first, and weights within a tree), Kueue's cases of fair sharing (pkg/scheduler: fair_sharing_iterator,
preemption_fair), Volcano's DRF and proportion cases (test/e2e/schedulingbase/drf.go, schedulingaction/fairshare.go),
KAI's docs/fairness, and dominant resource fairness (Ghodsi et al., NSDI'11).

Where our answer differs: fair shares decide whose turn it is, and evict nobody; only quota that somebody owns is taken
back (test_reclaim.py). Kueue evicts for fair shares too (KEP 1714, S2), with the risk that the KEP names itself, more
evictions; a team that came late gets its share as others end.
"""

from __future__ import annotations

from typing import Any

import pytest

from policies.lines import ends, job, nodes, pile, queue, run, runs, some_run, submit, together, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
ORG = queue("org", teams="")


def jobs(team: str, number: int, **fields: Any) -> list[tuple[str, dict[str, object]]]:
    """So many jobs of one accelerator, ``team-1`` first."""
    return [job(f"{team}-{one}", team=team, gpus=1, **fields) for one in range(1, number + 1)]


def names(team: str, number: int) -> str:
    return " ".join(f"{team}-{one}" for one in range(1, number + 1))


STORIES = {
    "two teams that ask at once get the same, though one of them was first": [
        nodes("a"),
        queue("red"),
        queue("blue"),
        together(*jobs("red", 4), *jobs("blue", 4)),
        run("red-1 red-2 blue-1 blue-2"),
        waits("red-3", "WaitingForCapacity"),
        waits("blue-3", "WaitingForCapacity"),
    ],
    "a weight of 3 gets three times as much": [
        nodes("a"),
        queue("red", weight="3"),
        queue("blue"),
        together(*jobs("blue", 4), *jobs("red", 4)),
        run("red-1 red-2 red-3 blue-1"),
    ],
    "priorities order the jobs within a queue, and give it no larger share": [
        nodes("a"),
        queue("red"),
        queue("blue"),
        together(*jobs("red", 3), job("red-vip", team="red", gpus=1, priority="urgent"), *jobs("blue", 4)),
        run("red-vip red-1 blue-1 blue-2"),
        waits("red-2", "WaitingForCapacity"),
    ],
    "a team alone has all, and nobody is evicted for shares: who comes late gets what becomes free": [
        nodes("a"),
        queue("red"),
        queue("blue"),
        together(*jobs("red", 5)),
        run(names("red", 4)),
        together(*jobs("blue", 3)),
        waits("blue-1", "WaitingForCapacity"),
        undisturbed(names("red", 4)),
        ends("red-1"),
        runs("blue-1"),
        waits("red-5", "WaitingForCapacity"),
        ends("red-2"),
        runs("blue-2"),
        ends("red-3"),
        runs("red-5"),
        waits("blue-3", "WaitingForCapacity"),
    ],
    "a department shares with the other department, and within itself": [
        nodes("a"),
        queue("west", teams=""),
        queue("red", parent="west"),
        queue("pink", parent="west"),
        queue("east", teams=""),
        queue("blue", parent="east"),
        together(*jobs("red", 4), *jobs("pink", 4), *jobs("blue", 4)),
        run("red-1 pink-1 blue-1 blue-2"),
    ],
    "shares of a tree by weights at two levels": [
        nodes("a", gpus=10),
        ORG,
        queue("spare", parent="org", teams="", owns=10),
        queue("one", parent="org", teams="", owns=0),
        queue("one-a", parent="one"),
        queue("one-b", parent="one"),
        queue("one-c", parent="one", weight="3"),
        queue("two", parent="org", teams="", owns=0),
        queue("two-a", parent="two"),
        pile(*jobs("one-a", 3), *jobs("one-b", 3), *jobs("one-c", 5), *jobs("two-a", 8)),
        some_run(names("one-a", 3), 1),
        some_run(names("one-b", 3), 1),
        some_run(names("one-c", 5), 3),
        some_run(names("two-a", 8), 5),
    ],
    "what a team owns comes before what others borrow": [
        nodes("a"),
        ORG,
        queue("red", parent="org", owns=1),
        queue("blue", parent="org", owns=3),
        together(*jobs("red", 4), *jobs("blue", 3)),
        run("red-1 blue-1 blue-2 blue-3"),
        waits("red-2", "WaitingForQuota", quota_nominal=1),
    ],
    "what is left of it is shared among those who want it": [
        nodes("a"),
        ORG,
        queue("owner", parent="org", owns=4),
        queue("red", parent="org", owns=0),
        queue("blue", parent="org", owns=0),
        together(*jobs("red", 4), *jobs("blue", 4)),
        run("red-1 red-2 blue-1 blue-2"),
    ],
    "the dominant product counts: who has half of one product comes after who has a quarter of the other": [
        nodes("h", product=H100),
        nodes("l", product=L4),
        queue("red"),
        queue("blue"),
        submit(job("red-l", team="red", gpus=2, accelerators=[{"product": L4}])),
        submit(job("blue-h", team="blue", gpus=1, accelerators=[{"product": H100}])),
        run("red-l blue-h"),
        together(
            job("red-h", team="red", gpus=2, accelerators=[{"product": H100}]),
            job("blue-more", team="blue", gpus=2, accelerators=[{"product": H100}]),
        ),
        runs("blue-more"),
        waits("red-h", "WaitingForCapacity"),
    ],
    "a gang that does not fit does not stop its queue, nor the others": [
        nodes("a"),
        queue("red"),
        queue("blue"),
        together(job("red-gang", team="red", gpus=4, pods=2), *jobs("red", 2), *jobs("blue", 2)),
        waits("red-gang", "ExceedsClusterCapacity"),
        run("red-1 red-2 blue-1 blue-2"),
    ],
    "large and small jobs: shares end within one job's size of the ideal": [
        nodes("a", gpus=8),
        queue("red"),
        queue("blue"),
        together(*(job(f"red-{n}", team="red", gpus=3) for n in (1, 2, 3)), *jobs("blue", 8)),
        some_run("red-1 red-2 red-3", 1),
        some_run(names("blue", 8), 5),
    ],
    "teams without a queue are one more team": [
        nodes("a"),
        queue("red"),
        together(*jobs("red", 4), *jobs("guest", 4)),
        run("red-1 red-2 guest-1 guest-2"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_fair_sharing(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
