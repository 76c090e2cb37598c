"""Changes on a disk that survive the process and the power, and files that are hashed as they pass (standard library).

Every change goes through here, and `before(operation, path)` is called ahead of each, so that a test can end the
process at any of them. The operations are: mkdir, create, write, sync, sync-folder, rename, unlink, rmdir.

What must stay true: digests are of the bytes that were meant, taken before they reach the disk; a file's digest is one
SHA-256 per part, so that a reader who needs one part checks just what it reads; on return a change is durable.

Shared folders (NFS and the like): rename is atomic there too, but where the server's answer is lost the client asks
again and is told that the source is gone, so `replace` then looks at the target. Some file systems refuse to sync a
folder (EINVAL): they have no such step, and it is left out.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import IO

CHUNK_BYTES = 1024 * 1024
NO_SYNC_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


class DamagedError(RuntimeError):
    """A file does not have the bytes that were written."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Size in bytes and SHA-256 of one part of a file."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Digest:
    """What a file holds: its parts in order."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return sum(part.size for part in self.parts)

    @functools.cached_property
    def by_offset(self) -> Mapping[int, Part]:
        """Each part by the offset at which it starts."""
        found, offset = {}, 0
        for part in self.parts:
            found[offset] = part
            offset += part.size
        return found


class HashingFile:
    """A file to write to that hashes and counts what passes, as torch.save wants it."""

    def __init__(self, file: IO[bytes], before: Callable[[], None]):
        """Wrap an open binary file; `before` is called ahead of each write."""
        self._file = file
        self._before = before
        self._parts: list[Part] = []
        self._hash = hashlib.sha256()
        self._part_size = 0
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`."""
        self._before()
        self._hash.update(data)
        self._file.write(data)
        self._part_size += len(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: what is written is flushed once, at the end."""

    def end_part(self) -> None:
        """What is written next belongs to another part."""
        if self._part_size:
            self._parts.append(Part(self._part_size, self._hash.hexdigest()))
            self._hash, self._part_size = hashlib.sha256(), 0

    def digest(self) -> Digest:
        """Of all that was written."""
        self.end_part()
        return Digest(tuple(self._parts))


class Disk:
    """One process's changes. `before(operation, path)` is called ahead of each; what it raises ends the change."""

    def __init__(self, *, before: Callable[[str, pathlib.Path], None], tag: str):
        """`tag` tells this writer's unfinished files from another's (a process id does not, between pods)."""
        self._before = before
        self._tag = tag

    def make_folder(self, path: pathlib.Path) -> None:
        """Make a folder; one that is there already is as good."""
        self._before("mkdir", path)
        path.mkdir(exist_ok=True)
        self.sync_folder(path.parent)

    def write(self, path: pathlib.Path, write: Callable[[HashingFile], object]) -> Digest:
        """Write a new file. Its name is durable only once its folder is synced."""
        self._before("create", path)
        with path.open("xb", buffering=CHUNK_BYTES) as file:
            hashing = HashingFile(file, before=lambda: self._before("write", path))
            write(hashing)
            file.flush()
            self._before("sync", path)
            os.fsync(file.fileno())
        return hashing.digest()

    def replace(self, path: pathlib.Path, data: bytes) -> None:
        """Put a small file in place whole."""
        part = path.with_name(f"{path.name}.{self._tag}.part")
        self._before("unlink", part)
        part.unlink(missing_ok=True)
        self.write(part, lambda file: file.write(data))
        self.sync_folder(path.parent)
        self._before("rename", path)
        try:
            part.replace(path)
        except FileNotFoundError:  # NFS: the answer to a rename that was made may be lost
            if part.exists() or path.read_bytes() != data:
                raise
        self.sync_folder(path.parent)

    def sync_folder(self, path: pathlib.Path) -> None:
        """Make the names in a folder durable."""
        self._before("sync-folder", path)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NO_SYNC_OF_FOLDERS:
                raise
        finally:
            os.close(handle)

    def remove_folder(self, path: pathlib.Path, *, first: str) -> None:
        """Remove a folder of plain files, the file named `first` durably before all others.

        What cannot be removed after that (a file that another client of an NFS server holds open) is left behind.
        """
        self._before("unlink", path / first)
        (path / first).unlink(missing_ok=True)
        if path.is_dir():
            self.sync_folder(path)
        with contextlib.suppress(OSError):
            for file in sorted(path.iterdir()):
                self._before("unlink", file)
                file.unlink(missing_ok=True)
            self._before("rmdir", path)
            path.rmdir()


def read_part(path: pathlib.Path, want: Digest, *, offset: int = 0) -> bytes:
    """The bytes of the part that starts at `offset`, checked: what is returned is what was verified."""
    part = want.by_offset.get(offset)
    if part is None:
        raise DamagedError(f"{path}: the manifest has no part at byte {offset}")
    try:
        with path.open("rb") as file:
            _check_size(path, file, want)
            file.seek(offset)
            data = file.read(part.size)
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise DamagedError(f"{path}: the SHA-256 of its {part.size} bytes from {offset} on is not the manifest's")
    return data


def check_file(path: pathlib.Path, want: Digest) -> None:
    """Raise DamagedError unless the file is exactly these parts."""
    try:
        with path.open("rb") as file:
            _check_size(path, file, want)
            for offset, part in want.by_offset.items():
                if _sha256(file, part.size) != part.sha256:
                    raise DamagedError(
                        f"{path}: the SHA-256 of its {part.size} bytes from {offset} on is not the manifest's"
                    )
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from None


def _check_size(path: pathlib.Path, file: IO[bytes], want: Digest) -> None:
    found = os.fstat(file.fileno()).st_size
    if found != want.size:
        raise DamagedError(f"{path}: {found} bytes, the manifest says {want.size}")


def _sha256(file: IO[bytes], size: int) -> str:
    found = hashlib.sha256()
    while size > 0 and (data := file.read(min(size, CHUNK_BYTES))):
        found.update(data)
        size -= len(data)
    return found.hexdigest()
