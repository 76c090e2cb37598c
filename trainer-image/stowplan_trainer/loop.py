"""The training loop, and the trainer that a checkpoint saves.

What must stay true: every rank makes the same steps and reaches the same collectives in the same order; the global
batch does not depend on the number of ranks; a run that stopped or died and resumed makes the steps that it would have
made undisturbed.
"""

import atexit
import contextlib
import dataclasses
import gc
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from stowplan_trainer import checkpoint, data, environment, progress, stop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is, apart from model and data."""

    epochs: int
    global_batch: int
    seed: int = 0
    checkpoint_every_steps: int = 100
    report_every_steps: int = 10
    step_seconds: float = 0.0
    """At least this long per step: for demonstrations and tests."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """The process group of a run: the device of this rank, and a gloo group for what must not wait for a GPU."""

    device: torch.device
    control: dist.ProcessGroup


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """Join the process group that torchrun describes (or be alone), and leave it in order.

    All ranks meet at a barrier before the group is torn down: without it, a rank whose peer left first has aborted.
    A stop ends the process with its own exit code, after that same barrier.
    """
    env = environment.Environment.read()
    atexit.register(gc.freeze)  # else the interpreter spends a second on looking through torch's objects before it ends
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", env.local_rank) if gpu else torch.device("cpu")
    backend = "nccl" if gpu else "gloo"
    if gpu:
        torch.cuda.set_device(device)
    if "MASTER_ADDR" in os.environ:
        dist.init_process_group(backend, device_id=device if gpu else None)
    else:
        store = dist.HashStore()  # type: ignore[attr-defined]  # torch's types leave it out
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    control = dist.new_group(backend="gloo")
    assert isinstance(control, dist.ProcessGroup)
    exit_code = 0
    try:
        yield Session(device=device, control=control)
    except stop.Stopped:
        exit_code = stop.STOPPED_EXIT_CODE
    dist.barrier(group=control)
    dist.destroy_process_group()
    if exit_code:
        sys.exit(exit_code)


class Trainer:
    """One data-parallel run. `loss` gives the mean over the samples of a batch."""

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        train_set: Dataset[Any],
        test_set: Dataset[Any],
        settings: Settings,
        session: Session,
    ):
        """Every rank gives the same arguments. The model must start with the same weights (DDP copies rank 0's)."""
        self.settings, self.session = settings, session
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        # torch's type of a data set promises no length, which every one that we take has.
        length, batch = len(train_set), settings.global_batch  # type: ignore[arg-type]
        self.total_steps = settings.epochs * (length // batch)
        self.sampler = data.StepSampler(
            length,
            global_batch=batch,
            total_steps=self.total_steps,
            seed=settings.seed,
            rank=self.rank,
            world_size=self.world_size,
        )
        self.train_set, self.test_set = train_set, test_set
        self.model = DistributedDataParallel(model.to(session.device))
        self.optimizer = optimizer(self.model.parameters())
        self.loss = loss
        self.step = 0
        self.accuracy = float("nan")
        torch.manual_seed(settings.seed * 1_000_003 + self.rank)  # dropout differs between ranks
        self.report = progress.serve(steps_total=self.total_steps)
        self.stop = stop.StopFlag(group=session.control)
        self.checkpoints = checkpoint.Checkpointer({"trainer": self}, on_commit=self._committed)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint saves; each rank's random state goes with it."""
        return {
            "step": self.step,
            "sampler": self.sampler.state_dict(self.step),
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take on a saved state."""
        self.sampler.check(state_dict["sampler"])
        self.step = self.sampler.start_step = state_dict["step"]
        self.model.module.load_state_dict(state_dict["model"])
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def run(self) -> None:
        """Train from where the last checkpoint ended to the end; `stop.Stopped` where a rank was told to stop."""
        every = self.settings
        self.stop.install()
        self._settle()
        self.checkpoints.resume()
        self.report.resumed(self.step)
        self._say(f"attempt {environment.Environment.read().attempt}: {self.world_size} ranks, from step {self.step}")
        for inputs, targets in self._batches():
            started = time.monotonic()
            loss = self._train_step(inputs, targets)
            self.step += 1
            time.sleep(max(0.0, started + every.step_seconds - time.monotonic()))
            last, stopping = self.step == self.total_steps, self.stop.agreed(self.checkpoints.failed)
            if last or stopping or self.step % every.report_every_steps == 0:
                self._report(loss)
            if last or self.step % self.sampler.steps_per_epoch == 0:
                self.evaluate()
            if last or stopping or self.step % every.checkpoint_every_steps == 0:
                self.checkpoints.save(self.step)
            if stopping and not last:
                self.checkpoints.wait()
                self._end(stopped=True)
                raise stop.Stopped(self.step)
        if math.isnan(self.accuracy):  # resumed after the last step
            self.evaluate()
        self.checkpoints.wait()
        self._end(stopped=False)

    def _train_step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(inputs, targets)
        self.optimizer.step()
        return loss

    def _backward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """This rank's share of a step. DDP averages over ranks; weighted by the share, that is the global mean."""
        self.model.train()
        share = len(inputs) * self.world_size / self.settings.global_batch
        loss = self.loss(self.model(inputs.to(self.session.device)), targets.to(self.session.device)) * share
        loss.backward()
        return loss.detach()

    def _settle(self) -> None:
        """Give DDP its first backward pass before the first step, as it orders its sums differently from the second on.

        Without this, the first step after a resume would round differently than in an undisturbed run.
        """
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        for inputs, targets in itertools.islice(self._batches(), 1):
            self._backward(inputs, targets)
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _batches(self) -> DataLoader[Any]:
        # A generator of its own: else DataLoader takes a number from the random state that checkpoints save.
        return DataLoader(self.train_set, batch_sampler=self.sampler, generator=torch.Generator())

    def _report(self, loss: torch.Tensor) -> None:
        mean = loss.clone()
        dist.all_reduce(mean)
        since, self._reported = self.step - getattr(self, "_reported", self.sampler.start_step), self.step
        self.report(self.step, loss=mean.item() / self.world_size, samples=since * self.settings.global_batch)
        epoch = (self.step - 1) // self.sampler.steps_per_epoch + 1
        self._say(
            f"step {self.step}/{self.total_steps} epoch {epoch}/{self.settings.epochs} "
            f"loss {mean.item() / self.world_size:.4f} {self.report.samples_per_second:.0f} samples/s"
        )

    @torch.no_grad()
    def evaluate(self) -> float:
        """The share of held-out samples that the model names rightly, each counted once."""
        self.model.eval()
        right = torch.zeros(1, dtype=torch.int64)
        count = len(self.test_set)  # type: ignore[arg-type]  # as above
        mine = torch.utils.data.Subset(self.test_set, range(self.rank, count, self.world_size))
        for inputs, targets in DataLoader(mine, batch_size=256, generator=torch.Generator()):
            guess = self.model.module(inputs.to(self.session.device)).argmax(dim=1).cpu()
            right += (guess == targets).sum()
        dist.all_reduce(right, group=self.session.control)
        self.accuracy = right.item() / count
        self.report.evaluated(self.accuracy)
        self._say(f"step {self.step}/{self.total_steps} held-out accuracy {self.accuracy:.4f}")
        return self.accuracy

    def _committed(self, step: int, unix_seconds: float, save_seconds: float | None) -> None:
        self.report.checkpoint(step, unix_seconds=unix_seconds, save_seconds=save_seconds)

    def _end(self, *, stopped: bool) -> None:
        if self.rank == 0:
            progress.write_termination_message(self.report.summary(**({"stopped": True} if stopped else {})))

    def _say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)
