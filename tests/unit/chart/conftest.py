"""Helm for the chart's tests: `render` gives the manifests for some values, and remembers them for the session."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import apiserver

CHART = apiserver.ROOT / "charts" / "stowplan"
Values = dict[str, Any]
Manifest = dict[str, Any]


class Helm:
    """Runs helm on the chart."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._program = apiserver.find_program("helm")
        self._directory = directory
        self._rendered: dict[str, list[Manifest]] = {}

    def run(self, command: str, *args: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
        """Run a helm command with a file of values."""
        path = self._directory / "values.yaml"
        path.write_text(yaml.safe_dump(values or {}))
        return subprocess.run(
            [self._program, command, *args, "--values", path, "--kube-version", "1.36.3"],
            capture_output=True,
            text=True,
            check=False,
        )

    def template(self, values: Values | None = None) -> subprocess.CompletedProcess[str]:
        """Render as `helm install stowplan -n stowplan-system` would."""
        return self.run("template", "stowplan", str(CHART), "--namespace", "stowplan-system", values=values)

    def render(self, values: Values | None = None) -> list[Manifest]:
        """The manifests for some values."""
        key = json.dumps(values or {}, sort_keys=True)
        if key not in self._rendered:
            done = self.template(values)
            assert done.returncode == 0, done.stderr
            self._rendered[key] = [one for one in yaml.safe_load_all(done.stdout) if one]
        return self._rendered[key]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, or a failure that says how to get it."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture
def render(helm: Helm) -> Callable[..., list[Manifest]]:
    """Render the chart with some values."""
    return helm.render
