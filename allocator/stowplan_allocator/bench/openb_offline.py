"""All pods known beforehand: the order in which they are served is ours, the nodes are the policy's.

Three orders are tried, and the end that leaves the least is kept. Two of them serve whole GPUs first, the largest
requests first, because shares fill what is left but not the other way round; then pods without GPUs; then shares,
the largest first. In one of these, shares that leave a hole which nothing fits into come last. The third order is
that of arrival. What must stay true: every pod is offered once, and placed if it fits when it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from stowplan_allocator import room_value
from stowplan_allocator.bench import openb_online
from stowplan_allocator.bench.openb_cluster import Cluster
from stowplan_allocator.bench.openb_online import Outcome
from stowplan_allocator.fragmentation import WHOLE, Want


def offline(cluster: Cluster, arriving: Sequence[int]) -> Outcome:
    """Serve all pods in each of the orders; of equal ends the first."""
    best: tuple[int, Outcome] | None = None
    for order in orders(cluster, arriving):
        trial = cluster.fresh()
        served = openb_online.online(trial, [arriving[pod] for pod in order])
        if best is None or trial.free_milli < best[0]:
            best = trial.free_milli, Outcome({order[place]: stand for place, stand in served.stands.items()})
    assert best is not None, "there are three orders"
    return best[1]


def orders(cluster: Cluster, arriving: Sequence[int]) -> tuple[list[int], ...]:
    """The pods, by their places in the sample, in each of the three orders."""
    wants = cluster.workload.wants
    prices = room_value.prices(wants, may_refuse=True)

    def size(pod: int) -> tuple[bool, int, int]:
        want = wants[arriving[pod]]
        return _is_share(want), -want.total_milli, -want.others[0]

    def holes_last(pod: int) -> tuple[int, tuple[bool, int, int]]:
        want = wants[arriving[pod]]
        return hole(want, prices=prices) if _is_share(want) else 0, size(pod)

    pods = list(range(len(arriving)))
    return sorted(pods, key=holes_last), sorted(pods, key=size), pods


def hole(want: Want, *, prices: room_value.Prices) -> int:
    """What is lost, in thousandths, when a share gets a device of its own and the best of the mix fills it up."""
    filled = prices.of_device(WHOLE - want.milli) + want.milli
    return max(0, round(prices.of_device(WHOLE) - filled))


def _is_share(want: Want) -> bool:
    return 0 < want.total_milli < WHOLE
