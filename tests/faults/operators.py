"""Operator processes that reach the API server through a proxy of their own, to be killed, frozen and thawed."""

from __future__ import annotations

import multiprocessing.process
import os
import pathlib
import signal
import threading
from typing import Any

import yaml

from apiserver import ADMIN, ApiServer
from faults import process
from faults.proxy import Proxy

NAMESPACE = "stowplan-system"
# Fast where speed changes no meaning; the Lease as short as it may be.
SETTINGS: dict[str, Any] = {
    "planner": {"debounceSeconds": 0.05, "resyncSeconds": 5},
    "prometheus": {"url": ""},
    "progress": {"via": "proxy", "intervalSeconds": 600},
    "health": {"nodeLostAfterSeconds": 3},
    "lease": {"name": "stowplan-faults", "durationSeconds": 5},
    "metricsPort": 0,
    "healthPort": 0,
    "answersPort": 0,
}


class Operator:
    """The operator behind a proxy; each start is a new process."""

    def __init__(self, server: ApiServer, folder: pathlib.Path, *, name: str = "operator") -> None:
        self.proxy = Proxy(url=server.url, ca_file=str(server.ca_file), token=server.tokens[ADMIN])
        self.starts = 0
        self.variant = ""
        self.log = folder / f"{name}.log"
        self._lock = threading.RLock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._log_at_start = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        self._environ = {
            "KUBECONFIG": str(folder / f"{name}.kubeconfig"),
            "STOWPLAN_SETTINGS": str(folder / f"{name}.yaml"),
            "STOWPLAN_NAMESPACE": NAMESPACE,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SETTINGS))
        (folder / f"{name}.kubeconfig").write_text(yaml.safe_dump(_kubeconfig(self.proxy.url)))

    def start(self, variant: str = "") -> None:
        """Start a new process, of the operator as it is or of a variant of it (see ``variants``)."""
        with self._lock:
            self.reap()
            self.starts += 1
            self.variant = variant
            self._log_at_start = self.log.stat().st_size
            self._process = process.start(self._environ, self.log, variant)
            self.proxy.pid = self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, and was not sent SIGKILL."""
        with self._lock:
            return self._process is not None and self.proxy.pid is not None and self._process.is_alive()

    @property
    def leads(self) -> bool:
        """Whether the newest process has taken the Lease."""
        return self.is_alive and "this process leads" in self.log_of_this_process

    @property
    def log_of_this_process(self) -> str:
        """What the newest process has written so far."""
        with self.log.open() as log:
            log.seek(self._log_at_start)
            return log.read()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        with self._lock:
            self.proxy.kill_operator()
            self.reap()

    def reap(self) -> None:
        """Wait for a process that was killed, or that has ended by itself."""
        with self._lock:
            if self._process is None:
                return
            if self.proxy.pid is not None and self._process.is_alive():
                raise RuntimeError("the operator still runs")
            self._process.join(10)
            self._process.close()
            self._process = None
            self.proxy.pid = None

    def freeze(self) -> None:
        """SIGSTOP: to everybody else it looks dead, and it does not know."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int | None:
        """SIGTERM, as for an upgrade, and SIGKILL after ten seconds; the exit status, None without a process."""
        with self._lock:
            if self._process is None:
                return None
            if self._process.is_alive():
                self._signal(signal.SIGTERM)
                self._process.join(10)
            code = self._process.exitcode
            self.kill()
            return code

    def close(self) -> None:
        """End the process and the proxy."""
        if self.is_alive:
            self.thaw()
        self.stop()
        self.proxy.close()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "operator", "user": {"token": "the proxy has its own"}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }
