"""Save and resume for all ranks together, on a folder that they share, with the protocol of `commit`.

Three lines in any script that torchrun starts (after init_process_group):

    checkpoints = Checkpointer({"model": model, "optimizer": optimizer})
    step = checkpoints.resume()       # 0 where there is none yet
    checkpoints.save(step)            # every rank calls it after the same step

`save` copies the state to host memory and returns; a thread writes it. One save is in flight at most: the next one
waits for it first. `wait` returns when the last one is durable; a process that ends waits by itself.

State is anything with state_dict and load_state_dict; who writes what is told in `shards`. Each rank adds its own
random state. What must stay true: all ranks load the same checkpoint (rank 0 proposes, each verifies what it reads, and
unless all could read it the next older one is tried); a rank's error in a save becomes every rank's, and is raised by
their next `save` or `wait`, or else fails the process at its end; checkpoints that all turn out damaged stop the run,
which must not start over in silence.
"""

import atexit
import contextlib
import math
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch.distributed.checkpoint import state_dict as dcp_state_dict
from torch.distributed.tensor import DTensor

from stowplan_trainer import commit, disk, environment, randomness, ranks, shards, tree

CheckpointError = commit.CheckpointError
NOTICEABLE_SECONDS = 1.0


class Stateful(Protocol):
    """A part of a run that can be saved."""

    def state_dict(self) -> Any:
        """Its state: tensors, numbers, texts, lists, tuples and dicts."""

    def load_state_dict(self, state_dict: Any) -> object:
        """Take that state on."""


class Checkpointer:
    """Checkpoints of one run. Without a folder it saves nothing and resumes at step 0."""

    def __init__(
        self,
        state: Mapping[str, Stateful],
        *,
        folder: pathlib.Path | None = None,
        keep: int = 2,
        on_commit: Callable[[int, float, float | None], None] = lambda step, unix_seconds, save_seconds: None,
    ):
        """All ranks make theirs together. `folder` is STOWPLAN_CHECKPOINT_DIR where not given.

        `on_commit(step, unix_seconds, save_seconds)` is called by the thread that saves, when a checkpoint is durable;
        and after a load with the loaded one's own time and None.
        """
        env = environment.Environment.read()
        folder = folder or env.checkpoint_dir
        self._state = dict(state)
        self._on_commit = on_commit
        self._grace_seconds = env.shutdown_timeout_seconds
        self._warned: set[str] = set()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._store: commit.Store | None = None
        self._ranks = ranks.Ranks()
        self._stager = shards.Stager(self._ranks)
        if folder is not None:
            self._store = commit.Store(folder, writer=commit.Writer(env.uid, env.attempt), keep=keep)
            self._ranks.on_rank_0(self._store.take_fence)

    @property
    def failed(self) -> bool:
        """Whether a save has failed and nobody was told yet: the next `save` or `wait` of each rank will raise."""
        return self._error is not None

    def save(self, step: int) -> bool:
        """Copy the state after `step` and write it in the background; False where there is no folder to save to.

        Waits for the save before this one. CheckpointError (or StaleWriterError) where that one has failed.
        """
        store = self._store
        if store is None:
            return False
        started = time.monotonic()
        self.wait()
        waited = time.monotonic() - started
        if waited > NOTICEABLE_SECONDS:
            self._warn_once("wait", f"step {step} waited {waited:.1f} s for the checkpoint before it: save less often")
        staged: shards.Staged = []
        problem = None
        try:
            staged = self._stager.stage(step, self._states, randomness.state)
        except CheckpointError:
            raise
        except Exception as error:  # this rank's alone: the others hear of it where they write
            problem = self._blame(error)
        self._thread = threading.Thread(
            target=self._run, args=(store, step, staged, problem, started), name="stowplan-checkpoint"
        )
        self._thread.start()  # not a daemon: the interpreter waits for it before it ends
        return True

    def wait(self) -> None:
        """Return when the last save is durable; raise what it failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            _untold.discard(self)
            raise error

    def resume(self) -> int:
        """Load the newest checkpoint that every rank can verify; the step after which it was made, or 0."""
        store = self._store
        if store is None:
            return 0
        self.wait()
        candidates: list[pathlib.Path] = self._ranks.on_rank_0(store.committed)
        if candidates:
            for part in self._state.values():
                _materialise(part)
        problems: list[str] = []
        for path in candidates:
            found = problem = fatal = None
            try:
                found = self._read(store, path)
            except (disk.DamagedError, OSError) as error:
                problem = f"rank {self._ranks.rank}: {error}"
            except Exception as error:
                fatal = self._blame(error)
            said = self._ranks.gather((problem, fatal))
            if fatals := [text for _, text in said if text]:
                raise CheckpointError(f"checkpoint {path} cannot be used: {'; '.join(fatals)}")
            if found is None or any(text for text, _ in said):
                told = "; ".join(text for text, _ in said if text)
                problems.append(told)
                if self._ranks.rank == 0:
                    _say(f"checkpoint {path.name} is passed over: {told}")
                continue
            store.trust(path)
            return self._take(*found)
        if candidates:
            raise CheckpointError(
                f"none of the {len(candidates)} checkpoints in {store.root} can be loaded ({'; '.join(problems)}); "
                f"restore one, or move them away to start from step 0"
            )
        return 0

    # saving, in the thread

    def _run(self, store: commit.Store, step: int, staged: shards.Staged, problem: str | None, started: float) -> None:
        try:
            manifest = self._write(store, step, staged, problem)
            seconds = time.monotonic() - started
            if manifest is not None:
                self._on_commit(step, manifest.created_unix_seconds, seconds)
                self._check_grace(seconds)
        except Exception as error:
            if not isinstance(error, CheckpointError | commit.StaleWriterError):
                error = CheckpointError(f"checkpoint of step {step} in {store.root} not saved: {self._blame(error)}")
            self._error = error
            _untold.add(self)
            if self._ranks.rank == 0:
                _say(str(error))

    def _write(
        self, store: commit.Store, step: int, staged: shards.Staged, problem: str | None
    ) -> commit.Manifest | None:
        path = self._ranks.on_rank_0(lambda: store.begin(step))
        if path is None:
            return None
        name = f"rank-{self._ranks.rank:05d}.distcp"
        places: shards.Places = {}
        files: dict[str, disk.Digest] = {}
        try:
            if problem is None:
                files[name] = store.write(path / name, lambda file: shards.write(file, staged, places, name=name))
        except Exception as error:
            problem = self._blame(error)
        written = self._agreed(store, step, (files, places), problem)
        try:
            checks = dict(written[self._ranks.rank - 1][0])  # another rank's: it may be seen from another node
            if self._ranks.rank == 0:
                checks[shards.METADATA] = self._write_metadata(store, path, [found for _, found in written])
            for name, digest in checks.items():
                disk.check_file(path / name, digest)
        except Exception as error:
            problem = self._blame(error)
        read_back = self._agreed(store, step, checks, problem)
        whole = {name: digest for found in read_back for name, digest in found.items()}
        return self._ranks.on_rank_0(lambda: self._commit(store, step, whole))

    def _write_metadata(self, store: commit.Store, path: pathlib.Path, found: list[shards.Places]) -> disk.Digest:
        assert self._stager.metadata is not None
        places = {index: place for each in found for index, place in each.items()}
        data = shards.packed(self._stager.metadata, places)
        return store.write(path / shards.METADATA, lambda file: file.write(data))

    def _commit(self, store: commit.Store, step: int, files: Mapping[str, disk.Digest]) -> commit.Manifest:
        manifest = store.commit(step, files=files, world_size=self._ranks.size)
        try:
            for name in store.prune():
                _say(f"checkpoint {store.root / name} is damaged and was not counted")
        except OSError as error:  # the new one counts all the same
            _say(f"older checkpoints in {store.root} could not be removed: {error}")
        return manifest

    def _agreed[T](self, store: commit.Store, step: int, value: T, problem: str | None) -> list[T]:
        """Every rank's value; where a rank has a problem, the save is given up by all."""
        said = self._ranks.gather((value, problem))
        problems = [text for _, text in said if text]
        if problems:
            if self._ranks.rank == 0:
                store.abandon(step)
            raise CheckpointError(f"checkpoint of step {step} in {store.root} not saved: {'; '.join(problems)}")
        return [value for value, _ in said]

    def _check_grace(self, seconds: float) -> None:
        if self._grace_seconds is not None and seconds > self._grace_seconds:
            self._warn_once(
                "grace",
                f"a checkpoint took {seconds:.1f} s, but a pod that is told to stop has {self._grace_seconds} s: set "
                f"spec.checkpoint.gracePeriodSeconds to {math.ceil(2 * seconds)} or more (one may be under way then)",
            )

    # loading

    def _read(self, store: commit.Store, path: pathlib.Path) -> tuple[commit.Manifest, Any, Any]:
        manifest = store.manifest(path)

        def read(name: str, offset: int) -> bytes:
            if name not in manifest.files:
                raise disk.DamagedError(f"{path / name}: not in the manifest")
            return disk.read_part(path / name, manifest.files[name], offset=offset)

        _, current = tree.split(self._states())
        return manifest, *shards.load(read, current, among=self._ranks, world_size=manifest.world_size)

    def _take(self, manifest: commit.Manifest, states: dict[str, Any], random: Any) -> int:
        if differing := self._state.keys() ^ states.keys():
            raise ValueError(
                f"the checkpoint of step {manifest.step} and this run differ in: {', '.join(sorted(differing))}"
            )
        for name, part in self._state.items():
            part.load_state_dict(states[name])
        if random is None:
            randomness.start_anew(step=manifest.step, rank=self._ranks.rank)
        else:
            randomness.restore(random)
        self._on_commit(manifest.step, manifest.created_unix_seconds, None)
        return manifest.step

    def _states(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._state.items()}

    def _blame(self, error: Exception) -> str:
        return f"rank {self._ranks.rank}: {type(error).__name__}: {error}"

    def _warn_once(self, kind: str, text: str) -> None:
        if self._ranks.rank == 0 and kind not in self._warned:
            self._warned.add(kind)
            _say(f"warning: {text}")


def _materialise(part: Stateful) -> None:
    """Make a sharded optimizer's state as after a first step: only what is there already is loaded shard by shard."""
    if isinstance(part, torch.optim.Optimizer):
        weights = (weight for group in part.param_groups for weight in group["params"])
        if any(isinstance(weight, DTensor) for weight in weights):
            dcp_state_dict._init_optim_state(part)


def _say(text: str) -> None:
    """To the log, if it takes anything: a full disk must not hide the error that it caused."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


_untold: set[Checkpointer] = set()


@atexit.register
def _fail_for_what_nobody_was_told() -> None:
    """A script that never asks again must not look complete when its last save has failed."""
    if _untold:
        _say("a checkpoint was not saved and nobody was told (see above): exit code 1")
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(1)
