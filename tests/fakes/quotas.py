"""ResourceQuotas as the API server and its quota controller keep them: ``requests.…``, ``cpu`` and ``pods``, no scopes.

A pod that is let in is charged at once; what has ended or is gone is given back when the controller counts again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stowplan_operator import kube

if TYPE_CHECKING:
    from fakes.server import Json, Server


def _takes(pod: Mapping[str, Any], resource: str) -> int:
    if resource == "pods":
        return 1
    name = resource.removeprefix("requests.")
    return sum(int(one.get("resources", {}).get("requests", {}).get(name, 0)) for one in pod["spec"]["containers"])


def _used(server: Server, namespace: str, resource: str) -> int:
    there = [pod for pod in server.all("pods") if pod["metadata"]["namespace"] == namespace]
    return sum(_takes(pod, resource) for pod in there if pod["status"]["phase"] not in ("Succeeded", "Failed"))


def charge(server: Server, pod: Json) -> None:
    """Charge a pod that is about to be created, or refuse it."""
    namespace = pod["metadata"]["namespace"]
    charged = []
    for quota in server.all("resourcequotas"):
        if quota["metadata"]["namespace"] != namespace:
            continue
        status = quota["status"]
        used = {name: int(amount) + _takes(pod, name) for name, amount in status["used"].items()}
        for name, amount in used.items():
            if amount > int(status["hard"][name]) and _takes(pod, name):
                message = (
                    f"pods {pod['metadata']['name']!r} is forbidden: exceeded quota: {quota['metadata']['name']}, "
                    f"requested: {name}={_takes(pod, name)}, used: {name}={status['used'][name]}, "
                    f"limited: {name}={status['hard'][name]}"
                )
                raise kube.ApiError(403, "Forbidden", message)
        charged.append((quota["metadata"]["name"], {name: str(amount) for name, amount in used.items()}))
    for name, amounts in charged:
        server.change("resourcequotas", namespace, name, lambda body, now=amounts: body["status"].update(used=now))


def count(server: Server) -> None:
    """What the quota controller does: take up new limits, and count anew."""
    for quota in server.all("resourcequotas"):
        meta = quota["metadata"]
        hard = quota["spec"]["hard"]
        used = {name: str(_used(server, meta["namespace"], name)) for name in hard}
        server.change(
            "resourcequotas",
            meta["namespace"],
            meta["name"],
            lambda body, hard=hard, used=used: body.update(status={"hard": dict(hard), "used": used}),
        )
