"""The walk through the queue that strategies with their own way of making room share.

What must stay true: jobs are served in queue order; nobody is placed on room that one before
him could have; a request that was refused stays refused, because room only shrinks, and it
counts as proven only where a bound or the strategy itself has shown it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stowplan_allocator import greedy, types
from stowplan_allocator.bounds import Bounds
from stowplan_allocator.problem import Shape
from stowplan_allocator.search import Search

CHAIN_LENGTH = 200

# Place a prefix of these next jobs, moving what is placed: how many were placed, and the request of the one behind
# them if it is proven that it cannot fit beside them.
MakeRoom = Callable[[Search, Sequence[Shape]], tuple[int, int | None]]


def admit(search: Search, *, jobs: Sequence[types.Job], limits: Bounds, make_room: MakeRoom) -> None:
    """Place the jobs of one priority in order: greedily, and where that fails by making room."""
    shape_of = search.problem.shape_of
    position = 0
    while position < len(jobs):
        request = shape_of[jobs[position].id].request
        if request.index in search.refused:
            position += 1
            continue
        spot = greedy.place(request, problem=search.problem, stock=search.stock)
        if spot is not None:
            search.spots[jobs[position].id] = spot
            position += 1
            continue
        if limits.cannot_fit(request, admitted=search.admitted()):
            search.refused.add(request.index)
            continue
        if search.left() <= 0:
            search.notes.append("the time limit ended the search, so another run may find another plan")
            search.give_up(request.index)
            continue
        ahead = [job for job in jobs[position:] if shape_of[job.id].request.index not in search.refused]
        ahead = ahead[:CHAIN_LENGTH]
        placed, refused = make_room(search, [shape_of[job.id] for job in ahead])
        if placed:
            # The chain skips refused requests: walk on to just behind what it placed.
            position = jobs.index(ahead[placed - 1], position) + 1
        if refused is not None:
            search.refused.add(refused)
        elif not placed:
            search.give_up(request.index)
