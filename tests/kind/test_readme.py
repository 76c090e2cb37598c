"""What the README's first screen shows is what a user gets."""

from __future__ import annotations

import re

import pytest
import yaml

from kind.cluster import ROOT, Cluster, Workspace

pytestmark = pytest.mark.kind

README = (ROOT / "README.md").read_text()


def _block(after: str) -> str:
    return README.split(after + "\n", 1)[1].split("\n```", 1)[0]


def _lines(text: str) -> list[str]:
    """The text without what differs from run to run: ages, seconds, names of namespaces."""
    text = re.sub(r"\b\d+(\.\d+)?\s?s\b", "N s", text.split("  Next  ")[0])
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def test_readme_explains_as_the_command_does(cluster: Cluster, workspace: Workspace) -> None:
    manifest = yaml.safe_load(README.split("```yaml\n", 1)[1].split("```", 1)[0])
    assert manifest == yaml.safe_load((ROOT / "examples/digits.yaml").read_text())
    cluster.kubectl("cordon", "stowplan-worker2")
    try:
        workspace.apply(manifest)
        # What would start it comes a moment after the reason.
        workspace.wait_status("digits", "alternatives", lambda one: one.get("decision", {}).get("alternatives"))
        table = workspace.kubectl("get", "tj").splitlines()
        cluster.env["COLUMNS"] = "100"
        explanation = cluster.stowplan("explain", "digits", "-n", workspace.namespace, check=False)
    finally:
        cluster.kubectl("uncordon", "stowplan-worker2")
    shown = _block("$ kubectl get tj").splitlines()
    assert table[0].split() == shown[0].split()
    assert table[1].split()[:-1] == shown[1].split()[:-1]
    assert _lines(explanation) == _lines(_block("$ kubectl stowplan explain digits"))
