"""Checkpoint folders that cannot lie: the commit protocol, on plain files (standard library only).

    ROOT/fence.json                              the one writer that may commit: {"uid": ..., "attempt": ...}
    ROOT/latest                                  the name of the newest committed folder (for people; the loader looks)
    ROOT/step-00000120-attempt-2-1f3c9d2e/       one folder per step, attempt and job, never written again
        rank-00000.distcp, ..., .metadata        the state, as torch.distributed.checkpoint lays it out
        manifest.json                            step, writer, time, and size and SHA-256 of each part of each file
        COMMITTED                                the SHA-256 of manifest.json; only with it does the folder count

Order of a save: take a new folder → each rank writes its files and syncs them → each rank reads back another's →
manifest.json, synced → the folder synced → the fence read again → COMMITTED put in place by rename, synced → `latest`
moved → older folders pruned. So a process that dies at any moment, or a disk that loses what was not synced, leaves the
earlier checkpoints as they were and at most a folder without COMMITTED, which no loader reads.

What must stay true: nothing of a folder is used but what has the manifest's SHA-256; at least two verified checkpoints
stay (once there have been two); a writer that lost the fence commits nothing and removes nothing of its successor's.
The fence needs no lock: it is read right before and right after the marker is placed, and a commit that lost it in
between is withdrawn. A successor takes the fence before it reads, and a folder is removed only while `keep` newer
verified ones stand, so what it is reading stays.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import time
from collections.abc import Callable, Mapping

from stowplan_trainer import disk
from stowplan_trainer.disk import DamagedError, Digest, HashingFile, Part

MANIFEST, MARKER, FENCE, LATEST = "manifest.json", "COMMITTED", "fence.json", "latest"
FOLDER = re.compile(r"step-(\d+)-attempt-(\d+)-([0-9a-zA-Z]+)")


class StaleWriterError(RuntimeError):
    """A newer attempt, or another job, has taken over the folder."""


class CheckpointError(RuntimeError):
    """A save that failed on some rank, or checkpoints of which none can be used."""


@dataclasses.dataclass(frozen=True, order=True)
class Writer:
    """Who writes: a job and its attempt."""

    uid: str
    attempt: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a committed folder holds."""

    step: int
    writer: Writer
    world_size: int
    created_unix_seconds: float
    files: Mapping[str, Digest]

    def to_json(self) -> bytes:
        """The bytes of manifest.json."""
        files = {name: [[part.size, part.sha256] for part in digest.parts] for name, digest in self.files.items()}
        value = {
            "step": self.step,
            "writer": dataclasses.asdict(self.writer),
            "world_size": self.world_size,
            "created_unix_seconds": self.created_unix_seconds,
            "files": files,
        }
        return json.dumps(value, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """The reverse; ValueError, KeyError or TypeError where the bytes are no manifest."""
        value = json.loads(data)
        return cls(
            step=value["step"],
            writer=Writer(**value["writer"]),
            world_size=value["world_size"],
            created_unix_seconds=value["created_unix_seconds"],
            files={
                name: Digest(tuple(Part(size, sha256) for size, sha256 in parts))
                for name, parts in value["files"].items()
            },
        )


class Store:
    """One root folder, seen by one process. `before(operation, path)` is called ahead of each change (see `disk`)."""

    def __init__(
        self,
        root: pathlib.Path,
        *,
        writer: Writer,
        keep: int = 2,
        clock: Callable[[], float] = time.time,
        before: Callable[[str, pathlib.Path], None] = lambda operation, path: None,
    ):
        """`keep` is how many verified checkpoints stay; `clock` gives Unix seconds."""
        if keep < 2:
            raise ValueError(f"keep={keep}: keep at least 2 checkpoints, or a damaged one leaves nothing to go back to")
        self.root = root
        self.writer = writer
        self.keep = keep
        self._clock = clock
        self._job = re.sub(r"[^0-9a-zA-Z]", "", writer.uid)[:8] or "job"
        self._disk = disk.Disk(before=before, tag=f"{writer.attempt}-{self._job}")
        self._verified: set[str] = set()

    # the fence

    def take_fence(self) -> None:
        """Become the one writer. Refused to an older attempt of the same job; a different job takes over."""
        self.root.mkdir(parents=True, exist_ok=True)
        held = self._fence()
        if held is not None and held.uid == self.writer.uid and held.attempt > self.writer.attempt:
            raise StaleWriterError(self._stale(held))
        if held != self.writer:
            self._disk.replace(self.root / FENCE, json.dumps(dataclasses.asdict(self.writer)).encode())

    def check_fence(self) -> None:
        """Raise StaleWriterError unless this is still the one writer."""
        held = self._fence()
        if held != self.writer:
            raise StaleWriterError(self._stale(held))

    def _fence(self) -> Writer | None:
        try:
            return Writer(**json.loads((self.root / FENCE).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _stale(self, held: Writer | None) -> str:
        by = "nobody" if held is None else f"attempt {held.attempt} of job {held.uid}"
        return (
            f"{self.root / FENCE}: the folder is held by {by}, this is attempt {self.writer.attempt} of job "
            f"{self.writer.uid}: nothing more is saved; give each job a checkpoint folder of its own"
        )

    # saving

    def folder(self, step: int) -> pathlib.Path:
        """The folder of a step of this writer."""
        return self.root / f"step-{step:08d}-attempt-{self.writer.attempt}-{self._job}"

    def begin(self, step: int) -> pathlib.Path | None:
        """Take a new folder for a step (one process does); None where this writer has already committed it."""
        self.check_fence()
        path = self.folder(step)
        if path.exists():
            try:
                self.verify(path)
            except DamagedError:
                self._remove(path)
            else:
                return None
        self._disk.make_folder(path)
        return path

    def write(self, path: pathlib.Path, write: Callable[[HashingFile], object]) -> Digest:
        """Write one file of an open folder, durably (each rank does for its own)."""
        return self._disk.write(path, write)

    def commit(self, step: int, *, files: Mapping[str, Digest], world_size: int) -> Manifest:
        """Make a step's folder count (one process does, when all its files are durable and were read back)."""
        path = self.folder(step)
        manifest = Manifest(
            step=step, writer=self.writer, world_size=world_size, created_unix_seconds=self._clock(), files=files
        )
        data = manifest.to_json()
        try:
            self._disk.replace(path / MANIFEST, data)
            self.check_fence()
            self._disk.replace(path / MARKER, hashlib.sha256(data).hexdigest().encode())
            self.check_fence()
        except (OSError, StaleWriterError):
            self.abandon(step)
            raise
        self.trust(path)
        try:
            self._disk.replace(self.root / LATEST, path.name.encode())
        except OSError as error:  # it is for people: the checkpoint counts without
            print(f"{self.root / LATEST} still names an older checkpoint: {error}", file=sys.stderr)
        return manifest

    def abandon(self, step: int) -> None:
        """Withdraw a folder that could not be completed, and give back its space as far as the disk lets us."""
        try:
            self._remove(self.folder(step))
        except OSError as error:
            print(f"{self.folder(step)} could not be removed: {error}", file=sys.stderr)

    def trust(self, path: pathlib.Path) -> None:
        """Count a folder as verified: all ranks together have read all of it."""
        self._verified.add(path.name)

    def prune(self) -> list[str]:
        """Remove what `keep` newer verified checkpoints make needless, and folders that were never committed.

        A folder of a newer attempt is its writer's to remove. Returns the names of damaged checkpoints, which stay
        until enough verified ones are newer.
        """
        good, damaged = 0, []
        for path in self.folders():
            if good >= self.keep or not (path / MARKER).exists():
                self.check_fence()
                if not self._of_newer_attempt(path):
                    self._remove(path)
            elif path.name in self._verified:
                good += 1
            else:
                try:
                    self.verify(path)
                    good += 1
                except DamagedError:
                    damaged.append(path.name)
        return damaged

    def _of_newer_attempt(self, path: pathlib.Path) -> bool:
        match = FOLDER.fullmatch(path.name)
        assert match, f"{path} is none of folders()"
        _, attempt, job = match.groups()
        return job == self._job and int(attempt) > self.writer.attempt

    def _remove(self, path: pathlib.Path) -> None:
        """Remove a folder, its marker first: half a folder must never count."""
        self._verified.discard(path.name)
        self._disk.remove_folder(path, first=MARKER)

    # loading

    def folders(self) -> list[pathlib.Path]:
        """All folders of checkpoints, committed or not, the newest step and attempt first."""
        if not self.root.is_dir():
            return []
        found = [(match, path) for path in self.root.iterdir() if (match := FOLDER.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda f: (int(f[0][1]), int(f[0][2]), f[1].name), reverse=True)]

    def committed(self) -> list[pathlib.Path]:
        """The folders that have a marker, the newest first; whether they are whole, `verify` tells."""
        return [path for path in self.folders() if (path / MARKER).exists()]

    def manifest(self, path: pathlib.Path) -> Manifest:
        """A folder's manifest, checked against its marker; the files are not read."""
        try:
            data = (path / MANIFEST).read_bytes()
            marker = (path / MARKER).read_bytes()
        except FileNotFoundError as error:
            raise DamagedError(f"{error.filename}: not there: the checkpoint was never committed") from None
        if hashlib.sha256(data).hexdigest().encode() != marker:
            raise DamagedError(f"{path / MANIFEST}: its SHA-256 is not the one in {MARKER}")
        try:
            return Manifest.from_json(data)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{path / MANIFEST}: not a manifest that this version reads: {error}") from None

    def verify(self, path: pathlib.Path) -> Manifest:
        """Read every file of a folder and compare; DamagedError names the first that differs."""
        manifest = self.manifest(path)
        for name, want in manifest.files.items():
            disk.check_file(path / name, want)
        self.trust(path)
        return manifest
