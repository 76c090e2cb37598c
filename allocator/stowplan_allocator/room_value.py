"""What the free room of a node is worth: the accelerators that it can be expected to give to requests yet to come.

A local rule, like FGD, but it looks at the end: a device with 530 thousandths free is worth what requests of the
usual sizes will put there and not 530, and devices beside too little CPU or memory are worth what these allow.

    worth(node) = value(node) - FRAGMENTS·fragmentation(node) + PLAIN·plain(node)
    value(node) = min( Σ_devices v(free),  1000·cpu / c,  1000·memory / m )

c and m are what the usual requests take of CPU and memory for one device, on average; ``plain`` is the CPU that a
usual request without accelerators could take here, in devices by c. A pod goes where the worth falls least. Where
CPU or memory is what runs out first, a device costs nothing; where there is plenty of them, they cost nothing.

v comes from a linear programme over the sizes s of requests and the levels l of what is free on one device:

    f[s,l] ≥ 0    requests of size s placed on devices where l is free, per device of the cluster
    w[l] ≥ 0      devices where l is free that are used as if it were l - 1
    max Σ s·f[s,l]
    (1)  w[l] + Σ_s f[s,l] ≤ start[l] + w[l+1] + Σ_s f[s,l+s]    for every l; start is 1 for a whole device, else 0
    (2)  Σ_l f[s,l] ≤ a[s]                                       for every s; a is what arrives
    (3)  Σ_l f[s,l]/a[s] ≤ Σ_l f[s',l]/a[s']                     for s > s' next in size: nothing that fits is
                                                                 refused, so a smaller request has no worse odds

v(l) is the price of (1), the least there is; w makes it grow with l. (3) is why a whole device can be worth less
than 1000: large shares will come that nothing fits beside. What must stay true: v depends on the mix of requests
alone, so it is found once and not per pod.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import fragmentation
from stowplan_allocator.fragmentation import WHOLE, Room, Want

# Sizes are rounded up to hundredths of a device.
STEP = 10
LEVELS = WHOLE // STEP
# How much is asked for of what there is. Between 1 and 1.5 it hardly matters.
PRESSURE = 1.3
# Weights of the two smaller terms, found by a search over seeds that no report uses.
FRAGMENTS = 0.1
PLAIN = 0.03
# Prices are rounded, so that what is equal but for the solver is equal.
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Prices:
    """``device`` is v by hundredths that are free; ``per_device`` what goes with one device of each other amount."""

    device: tuple[float, ...]
    per_device: tuple[float, ...]

    def of_device(self, free_milli: int) -> float:
        """v of one device."""
        return self.device[free_milli // STEP]

    def of_room(self, room: Room) -> float:
        """The value of what is free on a node, in thousandths of a device."""
        value = sum(self.of_device(free) for free in room.devices)
        for have, need in zip(room.others, self.per_device, strict=True):
            if need > 0:
                value = min(value, WHOLE * have / need)
        return value


def prices(wants: Sequence[Want], *, pressure: float = PRESSURE, may_refuse: bool = False) -> Prices:
    """Prices for a mix of requests that asks for ``pressure`` times what there is; without (3) where one may refuse."""
    users = [want for want in wants if want.total_milli]
    if not users:
        return Prices(tuple(float(level * STEP) for level in range(LEVELS + 1)), (0.0,) * _num_others(wants))
    devices = sum(want.weight * want.total_milli for want in users) / WHOLE
    per_device = tuple(sum(want.weight * want.others[i] for want in users) / devices for i in range(_num_others(users)))
    arrivals: dict[int, float] = defaultdict(float)
    for want in users:
        arrivals[-(-want.milli // STEP)] += want.weight * want.num_gpus * pressure / devices
    return Prices(_levels(arrivals, may_refuse=may_refuse), per_device)


def _num_others(wants: Sequence[Want]) -> int:
    return len(wants[0].others) if wants else 0


@dataclass(frozen=True, slots=True)
class Worth:
    """``of_room`` for one mix of requests; the first of the other amounts is CPU."""

    prices: Prices
    usual: tuple[Want, ...]
    plain: tuple[Want, ...]

    @classmethod
    def under(cls, wants: Sequence[Want], *, usual: tuple[Want, ...]) -> Worth:
        """The worth of rooms under a mix of requests; ``usual`` are those that count for fragmentation."""
        return cls(prices(wants), usual, fragmentation.weighted(want for want in wants if not want.total_milli))

    def of_room(self, room: Room) -> float:
        """What is free on a node is worth so much, in thousandths of a device."""
        worth = self.prices.of_room(room) - FRAGMENTS * fragmentation.expected(room, wants=self.usual)
        return worth + PLAIN * WHOLE * self._plain_cpu(room) / self._cpu_per_device()

    def _plain_cpu(self, room: Room) -> float:
        return sum(want.weight * want.others[0] for want in self.plain if want.others[0] <= room.others[0])

    def _cpu_per_device(self) -> float:
        return (self.prices.per_device and self.prices.per_device[0]) or 1.0


def _levels(arrivals: Mapping[int, float], *, may_refuse: bool) -> tuple[float, ...]:
    """v by level: the prices of (1)."""
    # PuLP and HiGHS take a second to load; only this needs them.
    import pulp

    sizes = sorted(arrivals, reverse=True)
    programme = pulp.LpProblem("fill", pulp.LpMaximize)
    arcs = [(size, level) for size in sizes for level in range(size, LEVELS + 1)]
    flow = {(size, level): programme.add_variable(f"f_{size}_{level}", 0) for size, level in arcs}
    waste = {level: programme.add_variable(f"w_{level}", 0) for level in range(1, LEVELS + 1)}
    programme.setObjective(pulp.LpAffineExpression.from_list([(flow[arc], float(arc[0])) for arc in arcs]))

    def at_most(name: str, terms: list[tuple[pulp.LpVariable, float]], right: float) -> None:
        programme.addConstraint(pulp.LpAffineExpression.from_list(terms) <= right, name)

    for level in range(1, LEVELS + 1):
        leaving = [(waste[level], 1.0), *((flow[size, level], 1.0) for size in sizes if size <= level)]
        coming = [(flow[size, level + size], -1.0) for size in sizes if level + size <= LEVELS]
        coming += [(waste[level + 1], -1.0)] if level < LEVELS else []
        at_most(f"level_{level}", leaving + coming, float(level == LEVELS))  # (1)
    placed = {size: [flow[size, level] for level in range(size, LEVELS + 1)] for size in sizes}
    for size in sizes:
        at_most(f"size_{size}", [(arc, 1.0) for arc in placed[size]], arrivals[size])  # (2)
    for larger, smaller in () if may_refuse else itertools.pairwise(sizes):
        terms = [(arc, 1.0 / arrivals[larger]) for arc in placed[larger]]
        at_most(f"odds_{larger}", [*terms, *((arc, -1.0 / arrivals[smaller]) for arc in placed[smaller])], 0.0)  # (3)
    programme.solve(pulp.HiGHS(msg=False, threads=1, random_seed=0, parallel="off"))
    price = {row.name: row.pi or 0.0 for row in programme.constraints()}
    return _least(sizes, arrivals=arrivals, price=price)


def _least(sizes: Sequence[int], *, arrivals: Mapping[int, float], price: Mapping[str, float]) -> tuple[float, ...]:
    """The least prices of levels under which no request gains by being placed, given the prices of (2) and (3)."""
    gain = {}
    before = 0.0
    for size in sizes:
        odds = price.get(f"odds_{size}", 0.0)
        gain[size] = size - price[f"size_{size}"] - (odds - before) / arrivals[size]
        before = odds
    values = [0.0]
    for level in range(1, LEVELS + 1):
        values.append(max(values[-1], *(gain[size] + values[level - size] for size in sizes if size <= level), 0.0))
    return tuple(round(STEP * value, DIGITS) for value in values)
