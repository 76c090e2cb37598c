"""The operator as it is deployed: `python -m stowplan_operator`, against the world's API server, without a proxy."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import yaml

from apiserver import ADMIN, ApiServer

NAMESPACE = "stowplan-system"
# Fast where speed changes no meaning.
SETTINGS: dict[str, Any] = {
    "planner": {"debounceSeconds": 0.05, "resyncSeconds": 60},
    # Most stories do not ask for answers; these take a second of CPU each.
    "answers": {"budgetSeconds": 60, "intervalSeconds": 600, "gatherSeconds": 600},
    "prometheus": {"url": ""},
    "progress": {"via": "proxy", "intervalSeconds": 600},
    "lease": {"name": "stowplan-policies", "durationSeconds": 15},
    "metricsPort": 0,
    "healthPort": 0,
    "answersPort": 0,
}


class OperatorProcess:
    """One process; other settings need another one."""

    def __init__(self, server: ApiServer, folder: pathlib.Path) -> None:
        self._server = server
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, Any] = {}
        self.log = folder / "operator.log"

    def ensure(self, **settings: dict[str, Any]) -> None:
        """It runs with these settings beside the usual ones, and leads."""
        wanted = {key: {**SETTINGS.get(key, {}), **settings.get(key, {})} for key in settings}
        if self._process is not None and wanted == self._settings:
            return
        self.stop()
        file = self._folder / "settings.yaml"
        file.write_text(yaml.safe_dump({**SETTINGS, **wanted}))
        self._settings = wanted
        environ = {
            **os.environ,
            "KUBECONFIG": str(self._server.kubeconfig(ADMIN)),
            "STOWPLAN_SETTINGS": str(file),
            "STOWPLAN_NAMESPACE": NAMESPACE,
        }
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "stowplan_operator"]
            self._process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while "this process leads" not in self.log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the operator does not lead; its log:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """What is written meanwhile is one change to it: SIGSTOP, and SIGCONT at the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it as an upgrade does: it gives its Lease back."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None
