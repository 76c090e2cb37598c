"""Kubernetes Events about TrainingJobs, as bodies. The message is the same text that the status carries."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from stowplan_operator import api, views

COMPONENT = "stowplan"


def build_event(job: views.JobView, reason: str, message: str, *, warning: bool, now_seconds: float) -> dict[str, Any]:
    """A core/v1 Event; its name follows from what it says and when, so that a repeated write is refused."""
    now = datetime.datetime.fromtimestamp(now_seconds, datetime.UTC)
    seed = f"{job.uid}/{reason}/{message}/{int(now_seconds)}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.name}.{hashlib.sha256(seed.encode()).hexdigest()[:16]}"},
        "involvedObject": {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "reason": reason,
        "message": message[:1024],
        "type": "Warning" if warning else "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "count": 1,
    }
