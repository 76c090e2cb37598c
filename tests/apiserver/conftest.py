"""One API server with the CRD and the chart's cluster-wide parts for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

import apiserver
import escapes

USERS = {
    apiserver.OPERATOR: ["system:serviceaccounts", "system:authenticated"],
    "alice": ["system:authenticated"],
    "bob": ["system:authenticated"],
    "carol": ["system:authenticated"],
    "developer": ["system:authenticated", "platform-team"],
    apiserver.JOB_CONTROLLER: ["system:masters"],
}


@pytest.fixture(scope="session")
def api() -> Iterator[apiserver.ApiServer]:
    """A real API server that serves TrainingJobs, with the controllers that join ClusterRoles and make accounts."""
    with apiserver.run(users=USERS, controller_manager=True) as server:
        server.install_crds()
        apiserver.wait_until(lambda: server.kubectl("get", "serviceaccount", "default").code == 0, what="accounts")
        yield server


EDIT = "stowplan-user-edit"


@pytest.fixture(scope="session")
def chart(api: apiserver.ApiServer) -> apiserver.ApiServer:
    """The same server with the chart applied, as far as it needs no pods."""
    rendered = apiserver.render_chart("--set", "admissionPolicy.extraGroups={platform-team}")
    api.kubectl("create", "namespace", "stowplan-system", check=True)
    api.kubectl("apply", "-f", "-", stdin=rendered, check=True)
    # What every user of the cluster may do, and no more: write pods and TrainingJobs; bob writes TrainingJobs alone.
    # carol may also have running jobs moved for one of hers.
    roles = {"alice": ["edit"], "developer": ["edit"], "bob": [EDIT], "carol": [EDIT, "stowplan-user-make-room"]}
    for name, role in ((name, role) for name, some in roles.items() for role in some):
        binding = f"{name}-{role}"
        api.kubectl("create", "clusterrolebinding", binding, f"--clusterrole={role}", f"--user={name}", check=True)
    api.kubectl("create", "priorityclass", "research", "--value=10", check=True)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "labels": {"stowplan.dev/job": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    apiserver.wait_until(
        lambda: api.kubectl("auth", "can-i", "create", "trainingjobs", user="alice").code == 0,
        what="the chart's rights to be part of role edit",
    )
    dry_run = ["apply", "--dry-run=server", "-f", "-"]
    # A new policy takes effect a moment after its creation.
    apiserver.wait_until(
        lambda: api.kubectl(*dry_run, stdin=yaml.safe_dump(pod), user=apiserver.JOB_CONTROLLER).code != 0,
        what="the policy for pods to be enforced",
    )
    return api


@pytest.fixture(scope="session")
def stored(chart: apiserver.ApiServer) -> escapes.Json:
    """A job of alice without anything wrong, for the tries to change one."""
    job = {**escapes.BASE, "metadata": {"name": "stored", "namespace": "default"}}
    status, answer = chart.send("POST", escapes.JOBS, job, user="alice")
    assert status == 201, answer
    return dict(answer)
