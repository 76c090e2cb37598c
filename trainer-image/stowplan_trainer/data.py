"""Which samples each rank trains at each step: a pure function of seed and step.

What must stay true: the global batch of a step does not depend on the number of ranks, and a run that resumes at step k
sees from there on exactly the samples that the undisturbed run sees. So the position is one number, the step: an epoch
is a fresh shuffle by (seed, epoch), step i of it takes the i-th global batch, and rank r takes every world-size-th
sample of that from r on. The last samples of a shuffle that fill no whole batch wait for another shuffle.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class StepSampler(Sampler[list[int]]):
    """A batch sampler for DataLoader that yields this rank's share of each step from `start_step` to `total_steps`."""

    def __init__(
        self,
        length: int,
        *,
        global_batch: int,
        total_steps: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ):
        """`length` is the number of samples in the data set."""
        if global_batch > length:
            raise ValueError(
                f"global_batch {global_batch} is more than the data set's {length} samples; make it smaller"
            )
        if global_batch < world_size:
            raise ValueError(
                f"global_batch {global_batch} leaves some of {world_size} ranks without samples; "
                f"make it {world_size} or more"
            )
        self.length = length
        self.global_batch = global_batch
        self.total_steps = total_steps
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_step = start_step
        self.steps_per_epoch = length // global_batch

    def global_indices(self, step: int) -> list[int]:
        """The samples of one step, for all ranks together."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        start = offset * self.global_batch
        return self._shuffle(epoch)[start : start + self.global_batch]

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's samples, step by step."""
        for step in range(self.start_step, self.total_steps):
            yield self.global_indices(step)[self.rank :: self.world_size]

    def __len__(self) -> int:
        """The number of steps left."""
        return max(0, self.total_steps - self.start_step)

    def _shuffle(self, epoch: int) -> list[int]:
        if epoch != getattr(self, "_epoch", None):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order: list[int] = torch.randperm(self.length, generator=generator).tolist()
            self._epoch = epoch
        return self._order

    def state_dict(self, step: int) -> dict[str, int]:
        """What must be the same when a run resumes, and where it was (epoch and offset are for people)."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        return {
            "length": self.length,
            "global_batch": self.global_batch,
            "seed": self.seed,
            "epoch": epoch,
            "offset": offset,
        }

    def check(self, state: dict[str, int]) -> None:
        """Refuse to resume where the samples would not be those of an undisturbed run."""
        for name in ("length", "global_batch", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the checkpoint was made with {name} {state[name]}, this run has {getattr(self, name)}: it would "
                    f"not see the same samples; set it back, or use another checkpoint folder"
                )
