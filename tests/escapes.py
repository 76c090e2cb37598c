"""A TrainingJob that nothing is wrong with, changed in one place, and each way to bring it to an API server."""

from __future__ import annotations

import copy
from typing import Any

import apiserver
from stowplan_operator import api as names
from stowplan_operator import podspec, settings, views

Json = dict[str, Any]

JOBS = "/apis/stowplan.dev/v1alpha1/namespaces/default/trainingjobs"
BASE: Json = {
    "apiVersion": "stowplan.dev/v1alpha1",
    "kind": "TrainingJob",
    "metadata": {"name": "escape", "namespace": "default"},
    "spec": {
        "image": "registry.example/train:1",
        "resourcesPerNode": {"cpu": 1},
        "env": [{"name": "SEED", "value": "1"}],
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}},
            "volumes": [{"name": "data", "emptyDir": {}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"runAsUser": 1000},
        },
    },
}
TEMPLATE = "spec.podTemplate"


def with_value(path: str, value: Any) -> Json:
    """The job with the value at this path; a number in it is a place in a list."""
    job: Any = copy.deepcopy(BASE)
    at = job
    *above, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in above:
        at = at[step]
    at[last] = value
    return dict(job)


def writes(chart: apiserver.ApiServer, job: Json, stored: Json, *, user: str, validation: str) -> dict[str, Any]:
    """The job as each kind of write brings it in, as a dry run: (HTTP status, answer) by kind."""
    dry = f"?dryRun=All&fieldValidation={validation}"
    of_stored = f"{JOBS}/stored{dry}"
    replaced = {**stored, "spec": job["spec"]}
    return {
        "create": chart.send("POST", f"{JOBS}{dry}", job, user=user),
        "replace": chart.send("PUT", of_stored, replaced, user=user),
        "merge patch": chart.send(
            "PATCH", of_stored, {"spec": job["spec"]}, user=user, content_type="application/merge-patch+json"
        ),
        "JSON patch": chart.send(
            "PATCH",
            of_stored,
            [{"op": "replace", "path": "/spec", "value": job["spec"]}],
            user=user,
            content_type="application/json-patch+json",
        ),
        "server-side apply": chart.send(
            "PATCH",
            f"{JOBS}/escape{dry}&fieldManager=test",
            job,
            user=user,
            content_type="application/apply-patch+yaml",
        ),
    }


def pod_of(job: Json) -> Json:
    """The pod that the operator makes of the stored job."""
    placement = {"attempt": 1, "nodes": [{"name": "n1", "ranks": "0"}]}
    body = {**job, "metadata": {**job["metadata"], "name": "escape", "uid": "u"}, "status": {"placement": placement}}
    view = views.JobView.from_body(body)
    (pod,) = podspec.build_pods(
        view, names.parse_spec(dict(view.spec)), placement, settings=settings.Settings()
    ).values()
    return pod
