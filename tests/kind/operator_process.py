"""The operator as a process outside the cluster, which a test can kill at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import yaml

from kind.cluster import ROOT, SYSTEM, VALUES, Cluster


class OperatorProcess:
    """`python -m stowplan_operator` against the trial cluster, with the chart's settings for tests."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        settings = yaml.safe_load(VALUES.read_text())["settings"]
        # The cluster's Prometheus has no address outside; leader election must not slow each restart down.
        settings["prometheus"] = {"url": ""}
        settings["lease"] = {"name": "stowplan-outside", "durationSeconds": 5}
        settings |= {"metricsPort": 0, "healthPort": 0, "answersPort": 0}
        # It reads progress through the API server, which asks from a node: no NetworkPolicy of pods lets that in.
        settings["networkPolicy"] = False
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        """Start a new process; it leads when the Lease of the last one has run out."""
        assert self._process is None
        self.starts += 1
        env = {
            **self._cluster.env,
            "STOWPLAN_SETTINGS": str(self._folder / "settings.yaml"),
            "STOWPLAN_NAMESPACE": SYSTEM,
        }
        command = [str(ROOT / ".venv/bin/python"), "-m", "stowplan_operator"]
        with (self._folder / f"operator-{self.starts}.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def stop(self) -> None:
        """End it well, if it runs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None
