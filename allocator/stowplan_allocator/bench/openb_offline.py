"""All pods known beforehand: the order in which they are served is ours, the nodes are the policy's.

Whole GPUs first, the largest requests first, because shares fill what is left but not the other way round; then
pods without GPUs; then shares. Of these, those that the mix fills a device with come first, the largest first, and
those that leave a hole which nothing fits into come last. What must stay true: every pod is offered once, and placed
if it fits when it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from stowplan_allocator import room_value
from stowplan_allocator.bench import openb_online
from stowplan_allocator.bench.openb_cluster import Cluster
from stowplan_allocator.bench.openb_online import Outcome
from stowplan_allocator.fragmentation import WHOLE, Want


def offline(cluster: Cluster, arriving: Sequence[int]) -> Outcome:
    """Serve all pods in that order."""
    wants = cluster.workload.wants
    prices = room_value.prices(wants, may_refuse=True)

    def turn(pod: int) -> tuple[bool, int, int, int, int]:
        want = wants[arriving[pod]]
        is_share = 0 < want.total_milli < WHOLE
        return is_share, hole(want, prices=prices) if is_share else 0, -want.total_milli, -want.others[0], pod

    order = sorted(range(len(arriving)), key=turn)
    served = openb_online.online(cluster, [arriving[pod] for pod in order])
    return Outcome({order[place]: stand for place, stand in served.stands.items()})


def hole(want: Want, *, prices: room_value.Prices) -> int:
    """What is lost, in thousandths, when a share gets a device of its own and the best of the mix fills it up."""
    filled = prices.of_device(WHOLE - want.milli) + want.milli
    return max(0, round(prices.of_device(WHOLE) - filled))
