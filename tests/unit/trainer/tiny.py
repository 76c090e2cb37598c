"""A run that is over in a second: ranks as processes of this machine, without torchrun's start-up."""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import traceback
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.data import TensorDataset

from stowplan_trainer import loop

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo", "stowplan_trainer.loop"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    exit_codes: list[int]
    written: list[dict]


def _rank_main(work: Callable, rank: int, env: Mapping[str, str], out: str, kwargs: dict) -> None:
    os.environ.update(env, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    try:
        result = work(rank, **kwargs)
    except Exception as error:
        traceback.print_exc()
        pathlib.Path(out).write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    pathlib.Path(out).write_text(json.dumps(result))


def ranks(
    work: Callable, *, world_size: int, folder: pathlib.Path, env: Mapping[str, str] | None = None, **kwargs
) -> Outcome:
    """Run work(rank, **kwargs) in that many processes; what each returned, and its exit code."""
    shared = {
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "TERMINATION_LOG": str(folder / "termination-log"),
        **(env or {}),
    }
    outs = [folder / f"rank-{rank}.out" for rank in range(world_size)]
    for out in outs:
        out.unlink(missing_ok=True)
    processes = [
        _context.Process(target=_rank_main, args=(work, rank, shared, str(out), kwargs))
        for rank, out in enumerate(outs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{process.name} hung")
    return Outcome(
        exit_codes=[process.exitcode or 0 for process in processes],
        written=[json.loads(out.read_text()) if out.exists() else {} for out in outs],
    )


class Noting(nn.Module):
    """A model with dropout that notes the samples of each training step: their last input is their number."""

    def __init__(self, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 3))
        self.seen: list[list[int]] = []

    def forward(self, inputs):
        if self.training:
            self.seen.append([int(number) for number in inputs[:, 6]])
        return self.layers(inputs[:, :6])


def sets(count: int = 60) -> tuple[TensorDataset, TensorDataset]:
    random = torch.Generator().manual_seed(7)
    inputs = torch.randn(count + 30, 6, generator=random)
    labels = inputs[:, :3].argmax(dim=1)
    inputs = torch.cat([inputs, torch.arange(count + 30.0).unsqueeze(1)], dim=1)
    return TensorDataset(inputs[:count], labels[:count]), TensorDataset(inputs[count:], labels[count:])


def train(
    rank: int,
    *,
    die_at: int | None = None,
    term: tuple[int, int] | None = None,
    every: int = 5,
    epochs: int = 6,
    global_batch: int = 12,
    count: int = 60,
    dropout: float = 0.3,
) -> dict:
    """One rank of a run of 30 steps. `die_at`: SIGKILL after that step; `term`: (rank, step) at which SIGTERM comes."""
    with loop.session() as session:
        torch.manual_seed(3)
        model = Noting(dropout)
        train_set, test_set = sets(count)

        def loss(guess: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
            if die_at is not None and rank == 1 and trainer.step == die_at and len(model.seen) > 1:
                trainer.checkpoints.wait()  # so that the step to resume from is known
                os.kill(os.getpid(), signal.SIGKILL)
            if term == (rank, trainer.step) and len(model.seen) > 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return nn.functional.cross_entropy(guess, want)

        trainer = loop.Trainer(
            model,
            optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-2),
            loss=loss,
            train_set=train_set,
            test_set=test_set,
            settings=loop.Settings(epochs=epochs, global_batch=global_batch, checkpoint_every_steps=every),
            session=session,
        )
        trainer.run()
    return {
        "step": trainer.step,
        "accuracy": trainer.accuracy,
        "seen": model.seen[1:],  # the first is the pass in which DDP settles
        "weights": [
            value.hex() for weight in model.parameters() for value in weight.detach().double().flatten().tolist()
        ],
    }
