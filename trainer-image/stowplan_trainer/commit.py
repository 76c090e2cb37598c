"""Checkpoint folders that cannot lie: the commit protocol, on plain files (standard library only).

    ROOT/fence.json                              the one writer that may commit: {"uid": ..., "attempt": ...}
    ROOT/latest                                  the name of the newest committed folder (for people; the loader looks)
    ROOT/step-00000120-attempt-2-1f3c9d2e/       one folder per step, attempt and job, never written again
        shared.pt, rank-00000.pt, ...            the state: what all ranks share, and each rank's own
        manifest.json                            step, writer, time, and size and SHA-256 of each file
        COMMITTED                                the SHA-256 of manifest.json; only with it does the folder count

Order of a save: take a new folder → each rank writes its files and syncs them → manifest.json, synced → the folder
synced → the fence read again → COMMITTED put in place by rename, synced → `latest` moved → older folders pruned. So a
process that dies at any moment, or a disk that loses what was not synced, leaves the earlier checkpoints as they were
and at most a folder without COMMITTED, which no loader reads.

What must stay true: a folder is loaded only if every file has the manifest's SHA-256; at least two verified checkpoints
stay (once there have been two); digests are of the bytes that were meant, taken before they reach the disk; a writer
that lost the fence commits nothing. The fence needs no lock: it is read right before and right after the marker is
placed, and a commit that lost it in between is withdrawn.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Mapping
from typing import IO

MANIFEST, MARKER, FENCE, LATEST = "manifest.json", "COMMITTED", "fence.json", "latest"
FOLDER = re.compile(r"step-(\d+)-attempt-(\d+)-[0-9a-zA-Z]+")


class StaleWriterError(RuntimeError):
    """A newer attempt, or another job, has taken over the folder."""


class DamagedError(RuntimeError):
    """A checkpoint does not have the bytes that were written."""


@dataclasses.dataclass(frozen=True, order=True)
class Writer:
    """Who writes: a job and its attempt."""

    uid: str
    attempt: int


@dataclasses.dataclass(frozen=True)
class Digest:
    """Size and SHA-256 of one file."""

    size: int
    sha256: str


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
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """The reverse; ValueError, KeyError or TypeError where the bytes are no manifest."""
        value = json.loads(data)
        return cls(
            step=value["step"],
            writer=Writer(**value["writer"]),
            world_size=value["world_size"],
            created_unix_seconds=value["created_unix_seconds"],
            files={name: Digest(**digest) for name, digest in value["files"].items()},
        )


class HashingFile:
    """A file to write to that hashes and counts what passes, as torch.save wants it."""

    def __init__(self, file: IO[bytes]):
        """Wrap an open binary file."""
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        self._hash.update(data)
        self._file.write(data)
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        """Flush the file beneath."""
        self._file.flush()

    def digest(self) -> Digest:
        """Of what was written so far."""
        return Digest(self._size, self._hash.hexdigest())


class Store:
    """One root folder, seen by one process. `before(operation, path)` is called ahead of each change on the disk."""

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
        self._before = before
        self._verified: set[str] = set()

    # the fence

    def take_fence(self) -> None:
        """Become the one writer. Refused to an older attempt of the same job; a different job takes over."""
        self.root.mkdir(parents=True, exist_ok=True)
        held = self._fence()
        if held is not None and held.uid == self.writer.uid and held.attempt > self.writer.attempt:
            raise StaleWriterError(self._stale(held))
        if held != self.writer:
            self._replace(self.root / FENCE, json.dumps(dataclasses.asdict(self.writer)).encode())

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
        job = re.sub(r"[^0-9a-zA-Z]", "", self.writer.uid)[:8]
        return self.root / f"step-{step:08d}-attempt-{self.writer.attempt}-{job or 'job'}"

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
        self._before("mkdir", path)
        path.mkdir()
        self._sync_folder(self.root)
        return path

    def write(self, path: pathlib.Path, write: Callable[[HashingFile], None]) -> Digest:
        """Write one file of an open folder, durably (each rank does for its own)."""
        self._before("write", path)
        with path.open("xb") as file:
            hashing = HashingFile(file)
            write(hashing)
            file.flush()
            self._before("sync", path)
            os.fsync(file.fileno())
        return hashing.digest()

    def commit(self, step: int, *, files: Mapping[str, Digest], world_size: int) -> Manifest:
        """Make a step's folder count (one process does, when all its files are durable)."""
        path = self.folder(step)
        manifest = Manifest(
            step=step, writer=self.writer, world_size=world_size, created_unix_seconds=self._clock(), files=files
        )
        data = manifest.to_json()
        self._replace(path / MANIFEST, data)
        self.check_fence()
        self._replace(path / MARKER, hashlib.sha256(data).hexdigest().encode())
        try:
            self.check_fence()
        except StaleWriterError:
            self._remove(path)
            raise
        self._replace(self.root / LATEST, path.name.encode())
        return manifest

    def abandon(self, step: int) -> None:
        """Give back the space of a folder that could not be completed."""
        self._remove(self.folder(step))

    def prune(self) -> list[str]:
        """Remove what `keep` newer verified checkpoints make needless, and folders that were never committed.

        Returns the names of damaged checkpoints, which stay until enough verified ones are newer.
        """
        self.check_fence()
        good, damaged = 0, []
        for path in self.folders():
            if good >= self.keep or not (path / MARKER).exists():
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
            check_file(path / name, want)
        self._verified.add(path.name)
        return manifest

    # changes on the disk

    def _replace(self, path: pathlib.Path, data: bytes) -> None:
        """Put a small file in place whole, durably."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._before("write", part)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            self._before("sync", part)
            os.fsync(file.fileno())
        self._sync_folder(path.parent)
        self._before("rename", path)
        part.replace(path)
        self._sync_folder(path.parent)

    def _sync_folder(self, path: pathlib.Path) -> None:
        self._before("sync-folder", path)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _remove(self, path: pathlib.Path) -> None:
        """Remove a folder, its marker first: half a folder must never count."""
        self._before("unmark", path)
        (path / MARKER).unlink(missing_ok=True)
        self._verified.discard(path.name)
        self._before("remove", path)
        shutil.rmtree(path, ignore_errors=True)


def check_file(path: pathlib.Path, want: Digest) -> None:
    """Raise DamagedError unless the file has the wanted size and SHA-256."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from None
    _compare(path, Digest(size, found), want)


def read_file(path: pathlib.Path, want: Digest) -> bytes:
    """The bytes of a file, checked: what is loaded is what was verified."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from None
    _compare(path, Digest(len(data), hashlib.sha256(data).hexdigest()), want)
    return data


def _compare(path: pathlib.Path, found: Digest, want: Digest) -> None:
    if found.size != want.size:
        raise DamagedError(f"{path}: {found.size} bytes, the manifest says {want.size}")
    if found.sha256 != want.sha256:
        raise DamagedError(f"{path}: its SHA-256 is not the manifest's")
