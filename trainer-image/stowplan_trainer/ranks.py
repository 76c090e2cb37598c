"""What all ranks do together: exchange small values, and learn of each other's errors.

It has a gloo group of its own, so that it works beside NCCL, may be used from one thread while another trains, and ends
with an error, not a hang, when a rank's process has died. Only one thread at a time may use it. `gather` and
`on_rank_0` go on working when the script has torn down its process groups while its last save is written.
"""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist


class Ranks:
    """This process among all; one that is alone needs no process group. All ranks call each method together."""

    def __init__(self) -> None:
        """All ranks make theirs at the same point, after init_process_group."""
        together = dist.is_initialized() and dist.get_world_size() > 1
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1
        self._group: Any = dist.new_group(backend="gloo") if together else None

    def gather[T](self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if self._group is None:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values  # type: ignore[return-value]  # no None is left

    def collect[T](self, value: T) -> list[T]:
        """Every rank's value, by rank, on rank 0; nothing on the others."""
        if self._group is None:
            return [value]
        values: list[T | None] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values or []  # type: ignore[return-value]  # no None is left

    def hand_out[T](self, work: Callable[[], list[T]]) -> T:
        """This rank's one of the values that `work` returns on rank 0; what it raises, every rank raises."""
        if self._group is None:
            return work()[0]
        answers: list[tuple[T | None, Exception | None]] | None = None
        if self.rank == 0:
            try:
                answers = [(value, None) for value in work()]
            except Exception as error:
                answers = [(None, error)] * self.size
        mine: list[Any] = [None]
        dist.scatter_object_list(mine, answers, src=0, group=self._group)
        value, problem = mine[0]
        if problem is not None:
            raise problem
        return value  # type: ignore[no-any-return]  # torch hands it out untyped

    def on_rank_0[T](self, work: Callable[[], T]) -> T:
        """What `work` returns on rank 0, on every rank; what it raises, every rank raises."""
        answer: tuple[T | None, Exception | None] | None = None
        if self.rank == 0:
            try:
                answer = work(), None
            except Exception as error:
                answer = None, error
        value, problem = self.gather(answer)[0] or (None, None)
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # None only where work returned it
