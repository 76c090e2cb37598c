"""``explain`` points to commands that work for the user, or says what they take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.operator.cli import samples
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State

TENANT = {"list trainingjobs everywhere", "list nodes everywhere", "list pods everywhere", "create pods/portforward"}
ROLE = "takes the role stowplan-user-answers in stowplan-system, which you lack"
# The job, what the user may not do → what is offered.
OFFERED: dict[str, tuple[dict[str, Any], set[str], list[tuple[str, str]]]] = {
    "everything to who may do everything": (
        samples.pending("WaitingForCapacity"),
        set(),
        [
            ("kubectl stowplan list -A", "who holds the accelerators"),
            ("kubectl stowplan wait digits --for Running -n default", "returns when it runs"),
            ("kubectl stowplan explain digits --deep -n default", "the smallest changes that would start it now"),
        ],
    ),
    "his own namespace to a tenant": (
        samples.pending("WaitingForCapacity"),
        TENANT,
        [
            ("kubectl stowplan list -n default", "who holds the accelerators, of your namespace alone"),
            ("kubectl stowplan wait digits --for Running -n default", "returns when it runs"),
            (
                "kubectl stowplan explain digits --deep -n default",
                f"the smallest changes that would start it now; {ROLE}",
            ),
        ],
    ),
    "the right that looking at nodes takes": (
        samples.pending("NodesUnhealthy"),
        {"list nodes everywhere"},
        [
            (
                "kubectl get nodes",
                "which nodes are not ready or cordoned; takes the right to list nodes, which you lack",
            ),
            ("kubectl stowplan wait digits --for Running -n default", "returns when it runs"),
            ("kubectl stowplan explain digits --deep -n default", "the smallest changes that would start it now"),
        ],
    ),
}


@pytest.mark.parametrize("case", OFFERED)
def test_explain_offers(run: Run, cluster: State, case: str) -> None:
    body, cluster.forbidden, want = OFFERED[case]
    cluster.jobs = [body]
    told = json.loads(run("explain", "digits", "-n", "default", "-o", "json").stdout)
    assert [(one["command"], one["shows"]) for one in told["next"]] == want


def test_an_empty_namespace_points_nowhere_where_nothing_else_is_seen(run: Run, cluster: State) -> None:
    cluster.forbidden = {"list trainingjobs everywhere"}
    said = run("explain", "digits", "-n", "default").stderr
    assert "there are no TrainingJobs in that namespace" in said
    assert "list -A" not in said
