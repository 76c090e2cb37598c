"""SIGTERM becomes a stop on which all ranks agree, after a whole step.

Kubernetes sends SIGTERM to a pod, torchrun forwards it to its workers, but not all ranks get it between the same two
steps, and some may not get it at all. So each rank only notes it, and after every step the ranks all-reduce the note:
they stop at the same step, save, and exit with STOPPED_EXIT_CODE. A rank that left alone would hang the others.
"""

import signal
import types

import torch
import torch.distributed as dist

STOPPED_EXIT_CODE = 128 + signal.SIGTERM  # what a shell reports for SIGTERM; 0 is for complete runs only


class Stopped(Exception):  # noqa: N818 - not an error: the run was asked to stop and did
    """All ranks stopped after `step`; what the run needs to go on is saved where it has a checkpoint folder."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class StopFlag:
    """Notes SIGTERM. `group` is a gloo group, so that agreeing never waits for a GPU."""

    def __init__(self, *, group: dist.ProcessGroup | None = None):
        """Make the flag; `install` arms it."""
        self._group = group
        self._noted = False

    def install(self) -> None:
        """Note SIGTERM from now on; to be called in the main thread."""
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: types.FrameType | None) -> None:
        self._noted = True

    def agreed(self, must_stop: bool = False) -> bool:
        """Whether any rank was asked to stop, or must for a reason of its own.

        All ranks must call this after the same step, and get the same answer.
        """
        stopping = self._noted or must_stop
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return stopping
        flag = torch.tensor([int(stopping)], dtype=torch.int32)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag.item())
