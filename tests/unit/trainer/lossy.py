"""A disk that fails at a chosen change: the hook that commit.Store calls ahead of each."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable

from stowplan_trainer import commit

WAYS = {
    "process dies": "nothing of what was done is lost",
    "power fails, contents lost": "files that were not synced have half their bytes",
    "power fails, names lost": "files, folders and renames whose folder was not synced are gone, markers are back",
}


class LossyDisk:
    """Before change number `fail_at` it loses what `way` says and calls `fail`."""

    def __init__(self, *, fail_at: int | None = None, way: str = "process dies", fail: Callable[[], object] = exit):
        self.fail_at, self.way, self.fail = fail_at, way, fail
        self.changes: list[tuple[str, str]] = []
        self._unsynced: set[pathlib.Path] = set()
        self._undo: list[tuple[pathlib.Path, Callable[[], object]]] = []

    def __call__(self, operation: str, path: pathlib.Path) -> None:
        if len(self.changes) == self.fail_at:
            self._lose()
            self.fail()
        self.changes.append((operation, path.name))
        if operation == "create":
            self._unsynced.add(path)
            self._undo.append((path, lambda: path.unlink(missing_ok=True)))
        elif operation == "sync":
            self._unsynced.discard(path)
        elif operation == "mkdir":
            self._undo.append((path, lambda: shutil.rmtree(path, ignore_errors=True)))
        elif operation == "rename":
            old = path.read_bytes() if path.exists() else None
            self._undo.append((path, lambda: path.unlink() if old is None else path.write_bytes(old)))
        elif operation == "unlink" and path.name == commit.MARKER and path.exists():
            marker = path.read_bytes()
            self._undo.append((path, lambda: path.write_bytes(marker)))
        elif operation == "sync-folder":
            self._undo = [(changed, undo) for changed, undo in self._undo if changed.parent != path]

    def _lose(self) -> None:
        if "contents" in self.way:
            for path in self._unsynced:
                if path.exists():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if "names" in self.way:
            for _, undo in reversed(self._undo):
                with contextlib.suppress(FileNotFoundError):
                    undo()
