"""Save and resume for all ranks together, on a folder that they share, with the protocol of `commit`.

Three lines in any script that torchrun starts (after init_process_group):

    checkpoints = Checkpointer({"model": model, "optimizer": optimizer})
    step = checkpoints.resume()       # 0 where there is none yet
    checkpoints.save(step)            # every rank calls it after the same step

State is anything with state_dict and load_state_dict, the same on all ranks (as under DDP): rank 0 writes it. Each rank
adds its own random state. What must stay true: all ranks load the same checkpoint (rank 0 proposes, each verifies what
it reads, and unless all could read it the next older one is tried); a rank's error in a save becomes every rank's, so
that nobody waits; checkpoints that all turn out damaged stop the run, which must not start over in silence. Files are
read with weights_only, so that a checkpoint cannot run code.
"""

import io
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.distributed as dist

from stowplan_trainer import commit, environment

SHARED = "shared.pt"


class Stateful(Protocol):
    """A part of a run that can be saved."""

    def state_dict(self) -> Any:
        """Its state: tensors, numbers, texts, lists and dicts."""

    def load_state_dict(self, state_dict: Any) -> object:
        """Take that state on."""


class CheckpointError(RuntimeError):
    """A save that failed on some rank, or checkpoints of which none can be used."""


class Checkpointer:
    """Checkpoints of one run. Without a folder it saves nothing and resumes at step 0."""

    def __init__(
        self,
        state: Mapping[str, Stateful],
        *,
        folder: pathlib.Path | None = None,
        keep: int = 2,
        group: dist.ProcessGroup | None = None,
        on_commit: Callable[[int, float], None] = lambda step, unix_seconds: None,
    ):
        """`folder` is STOWPLAN_CHECKPOINT_DIR where not given; `group` a gloo group where the default one is NCCL.

        `on_commit(step, unix_seconds)` is called after a commit, and after a load with the loaded one's own time.
        """
        env = environment.Environment.read()
        folder = folder or env.checkpoint_dir
        self._state = dict(state)
        self._group = group
        self._on_commit = on_commit
        self._distributed = dist.is_initialized() and dist.get_world_size() > 1
        self._rank = dist.get_rank() if self._distributed else 0
        self._world_size = dist.get_world_size() if self._distributed else 1
        self._store: commit.Store | None = None
        if folder is not None:
            self._store = commit.Store(folder, writer=commit.Writer(env.uid, env.attempt), keep=keep)
            self._on_rank_0(self._store.take_fence)

    def save(self, step: int) -> bool:
        """Commit the state after `step`; on return it is durable. False where there is no folder to save to."""
        store = self._store
        if store is None:
            return False
        path = self._on_rank_0(lambda: store.begin(step))
        if path is None:
            return True
        digests: dict[str, commit.Digest] = {}
        problem = None
        try:
            if self._rank == 0:
                shared = {name: part.state_dict() for name, part in self._state.items()}
                digests[SHARED] = store.write(path / SHARED, lambda file: torch.save(shared, file))  # type: ignore[arg-type]
            own = rank_file(self._rank)
            random = random_state()
            digests[own] = store.write(path / own, lambda file: torch.save(random, file))  # type: ignore[arg-type]
        except Exception as error:  # whatever it is, the other ranks must hear of it
            problem = f"rank {self._rank}: {type(error).__name__}: {error}"
        reports = self._gather((digests, problem))
        problems = [text for _, text in reports if text]
        if problems:
            if self._rank == 0:
                store.abandon(step)
            raise CheckpointError(f"checkpoint of step {step} in {store.root} not saved: {'; '.join(problems)}")
        files = {name: digest for found, _ in reports for name, digest in found.items()}
        manifest = self._on_rank_0(lambda: store.commit(step, files=files, world_size=self._world_size))
        self._on_commit(step, manifest.created_unix_seconds)
        if self._rank == 0:
            for name in store.prune():
                print(f"checkpoint {store.root / name} is damaged and was not counted", file=sys.stderr)
        return True

    def resume(self) -> int:
        """Load the newest checkpoint that every rank can verify; the step after which it was made, or 0."""
        store = self._store
        if store is None:
            return 0
        candidates: list[pathlib.Path] = self._on_rank_0(store.committed)
        problems: list[str] = []
        for path in candidates:
            manifest, problem, shared, own = None, None, b"", b""
            try:
                manifest = store.verify(path) if self._rank == 0 else store.manifest(path)
                shared = commit.read_file(path / SHARED, manifest.files[SHARED])
                if manifest.world_size == self._world_size:
                    own = commit.read_file(path / rank_file(self._rank), manifest.files[rank_file(self._rank)])
            except (commit.DamagedError, OSError, KeyError) as error:
                problem = f"rank {self._rank}: {error}"
            found = [text for text in self._gather(problem) if text]
            if found or manifest is None:
                problems += found
                if self._rank == 0:
                    print(f"checkpoint {path.name} is passed over: {'; '.join(found)}", file=sys.stderr)
                continue
            self._load(manifest, shared=shared, own=own)
            self._on_commit(manifest.step, manifest.created_unix_seconds)
            return manifest.step
        if candidates:
            raise CheckpointError(
                f"none of the {len(candidates)} checkpoints in {store.root} can be loaded ({'; '.join(problems)}); "
                f"restore one, or move them away to start from step 0"
            )
        return 0

    def _load(self, manifest: commit.Manifest, *, shared: bytes, own: bytes) -> None:
        states = torch.load(io.BytesIO(shared), map_location="cpu", weights_only=True)
        missing = self._state.keys() ^ states.keys()
        if missing:
            raise ValueError(
                f"the checkpoint of step {manifest.step} and this run differ in: {', '.join(sorted(missing))}"
            )
        for name, part in self._state.items():
            part.load_state_dict(states[name])
        if own:
            set_random_state(torch.load(io.BytesIO(own), map_location="cpu", weights_only=True))
        else:  # another number of ranks: no rank's random state fits, so each starts one of its own, the same each time
            torch.manual_seed((torch.initial_seed() + manifest.step * 1_000_003 + self._rank) % 2**63)

    # what all ranks do together

    def _gather[T](self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if not self._distributed:
            return [value]
        values: list[T | None] = [None] * self._world_size
        dist.all_gather_object(values, value, group=self._group)
        return values  # type: ignore[return-value]

    def _on_rank_0[T](self, work: Callable[[], T]) -> T:
        """What `work` returns on rank 0, on every rank; what it raises, every rank raises."""
        if not self._distributed:
            return work()
        answer: list[Any] = [None, None]
        if self._rank == 0:
            try:
                answer[0] = work()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0, group=self._group)
        if answer[1] is not None:
            raise answer[1]
        result: T = answer[0]
        return result


def rank_file(rank: int) -> str:
    """The name of a rank's own file."""
    return f"rank-{rank:05d}.pt"


def random_state() -> dict[str, torch.Tensor]:
    """torch's random state: the CPU's, and the current GPU's where CUDA is in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """The reverse of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
