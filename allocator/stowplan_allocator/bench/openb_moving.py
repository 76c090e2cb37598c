"""Arrivals with a budget of moves: a share leaves its GPU for a hole elsewhere, so that a whole GPU appears.

When a pod that wants whole GPUs fits nowhere, devices with a single share on them are looked at: if that share fits
into a hole on another device, moving it makes a whole one. Of all ways to make room on one node, the one is taken
that loses the least worth per move. What must stay true: everything else is as in ``openb_online``; moves never
exceed ``MOST_MOVES`` of the pods placed so far; and where the pods to be moved find no place, all is as before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from stowplan_allocator.bench.openb_cluster import Cluster, Stand
from stowplan_allocator.bench.openb_online import Outcome
from stowplan_allocator.fragmentation import WHOLE

MOST_MOVES = 0.05

Spot = tuple[int, int]  # node, device


def moving(cluster: Cluster, arriving: Sequence[int]) -> Outcome:
    """One after the other, with moves where a pod of whole GPUs fits nowhere."""
    board = Board(cluster, arriving)
    for pod, want in enumerate(arriving):
        node = cluster.choose(want)
        if node is not None:
            board.put(pod, node)
        elif cluster.workload.wants[want].milli == WHOLE:
            board.make_room(pod)
    return Outcome(board.stands, board.moves)


class Board:
    """Who stands where, and the shares that have a device for themselves."""

    def __init__(self, cluster: Cluster, arriving: Sequence[int]) -> None:
        self.stands: dict[int, Stand] = {}
        self.moves = 0
        self._cluster = cluster
        self._wants = cluster.workload.wants
        self._arriving = arriving
        self._on: dict[Spot, list[int]] = defaultdict(list)
        self._alone: dict[int, dict[Spot, int]] = defaultdict(dict)

    def put(self, pod: int, node: int) -> None:
        """Place a pod on a node where it fits."""
        self._note(pod, self._cluster.place(self._arriving[pod], node))

    def make_room(self, pod: int) -> bool:
        """Place a pod by moving others, if that can be done within the budget."""
        chosen = self._best(self._arriving[pod])
        if chosen is None:
            return False
        node, leaving = chosen
        old = [(other, self._take(other)) for other in leaving]
        assert self._cluster.grades(self._arriving[pod])[node] > -float("inf"), "a cleared node is too small"
        self.put(pod, node)
        placed = [pod]
        for other, _ in old:
            to = self._cluster.choose(self._arriving[other])
            if to is None:
                for one in placed:
                    self._take(one)
                self._restore(old)
                return False
            self.put(other, to)
            placed.append(other)
        self.moves += len(old)
        return True

    def _best(self, want: int) -> tuple[int, list[int]] | None:
        """The node to clear, and the pods to move from it: the least loss per move."""
        num_gpus = self._wants[want].num_gpus
        best: tuple[float, int, list[int]] | None = None
        for node, movable in self._movable(want).items():
            missing = num_gpus - self._cluster.devices[node].count(WHOLE)
            if 0 < missing <= len(movable) and self.moves + missing <= MOST_MOVES * len(self.stands):
                taken = sorted(movable, reverse=True)[:missing]
                leaving = [pod for _, pod in taken]
                worth = sum(one for one, _ in taken) / missing
                if (best is None or worth > best[0]) and self._suffices(want, node, leaving):
                    best = worth, node, leaving
        return None if best is None else best[1:]

    def _suffices(self, want: int, node: int, leaving: Sequence[int]) -> bool:
        """Whether CPU and memory are enough once those pods have left."""
        freed = [self._wants[self._arriving[pod]].others for pod in leaving]
        cpu, memory = self._wants[want].others
        enough_cpu = self._cluster.cpu[node] + sum(one[0] for one in freed) >= cpu
        return bool(enough_cpu and self._cluster.memory[node] + sum(one[1] for one in freed) >= memory)

    def _movable(self, want: int) -> dict[int, list[tuple[float, int]]]:
        """By node, the lone shares that fit into a hole elsewhere: what the move is worth, and the pod."""
        found: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for other in sorted(self._alone):
            spots = self._alone[other]
            grade = float(self._cluster.grades(other).max()) if spots else -float("inf")
            if grade > -float("inf"):
                for (node, device), pod in spots.items():
                    if self._cluster.allows(want, node):
                        # The more is left free on its device, the less the share's leaving gives up.
                        worth = grade - self._cluster.device_value(self._cluster.devices[node][device])
                        found[node].append((worth, pod))
        return found

    def _take(self, pod: int) -> Stand:
        stand = self.stands.pop(pod)
        self._cluster.remove(stand)
        for device in stand.devices:
            self._alone_at((stand.node, device), present=False)
            self._on[stand.node, device].remove(pod)
            self._alone_at((stand.node, device), present=True)
        return stand

    def _restore(self, old: Sequence[tuple[int, Stand]]) -> None:
        for pod, stand in old:
            self._cluster.put_back(stand)
            self._note(pod, stand)

    def _note(self, pod: int, stand: Stand) -> None:
        self.stands[pod] = stand
        for device in stand.devices:
            self._alone_at((stand.node, device), present=False)
            self._on[stand.node, device].append(pod)
            self._alone_at((stand.node, device), present=True)

    def _alone_at(self, spot: Spot, *, present: bool) -> None:
        """Keep the list of lone shares: called before and after each change of a device."""
        pods = self._on[spot]
        if len(pods) == 1 and self._wants[self._arriving[pods[0]]].milli < WHOLE:
            shares = self._alone[self._arriving[pods[0]]]
            if present:
                shares[spot] = pods[0]
            else:
                del shares[spot]
