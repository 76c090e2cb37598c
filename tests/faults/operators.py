"""Operator processes that reach the API server through a proxy of their own, to be killed, frozen and thawed."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import yaml

from apiserver import ADMIN, ROOT, ApiServer
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
    """`python -m stowplan_operator` behind a proxy; each start is a new process."""

    def __init__(self, server: ApiServer, folder: pathlib.Path, *, name: str = "operator") -> None:
        self.proxy = Proxy(url=server.url, ca_file=str(server.ca_file), token=server.tokens[ADMIN])
        self._folder = folder
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        cluster = {"name": "proxy", "cluster": {"server": self.proxy.url}}
        user = {"name": "operator", "user": {"token": "the proxy has its own"}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}
        (folder / f"{name}.kubeconfig").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [cluster],
                    "users": [user],
                    "contexts": [context],
                    "current-context": "proxy",
                }
            )
        )

    def start(self) -> None:
        """Start a new process."""
        self.reap()
        self.starts += 1
        env = {
            **os.environ,
            "KUBECONFIG": str(self._folder / f"{self._name}.kubeconfig"),
            "STOWPLAN_SETTINGS": str(self._folder / "settings.yaml"),
            "STOWPLAN_NAMESPACE": NAMESPACE,
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("operator", "allocator")),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stowplan_operator"], env=env, stdout=log, stderr=log
            )
        self.proxy.pid = self._process.pid

    @property
    def log(self) -> pathlib.Path:
        """Where all processes of this operator write."""
        return self._folder / f"{self._name}.log"

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def leads(self) -> bool:
        """Whether the newest process has taken the Lease."""
        return self.is_alive and self.log.read_text().count("this process leads") >= self.starts

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.proxy.kill_operator()
        self.reap()

    def reap(self) -> None:
        """Wait for a process that was killed."""
        if self._process is not None:
            if self.proxy.pid is not None and self._process.poll() is None:
                raise RuntimeError("the operator still runs")
            self._process.wait(10)
            self._process = None
            self.proxy.pid = None

    def freeze(self) -> None:
        """SIGSTOP: to everybody else it looks dead, and it does not know."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the process and the proxy."""
        if self._process is not None:
            self._process.terminate()
            self.thaw()
            deadline = time.monotonic() + 10
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            self.kill()
        self.proxy.close()
