"""An alternative of a waiting job, as its status tells it to people, carried out as people would: word by word."""

from __future__ import annotations

import re
from collections.abc import Callable

from policies.stage import Stage
from world.client import MERGE

_GPU = "nvidia.com/gpu"


def carry_out(stage: Stage, name: str, kind: str, sentence: str) -> None:
    """Make the change. A ValueError where the sentence does not say what to do."""
    pattern, do = _CHANGES[kind]
    found = re.fullmatch(pattern, sentence)
    if found is None:
        raise ValueError(f"{kind} does not say what to do: {sentence}")
    do(stage, name, *found.groups())


def _topology(stage: Stage, name: str, **changes: str) -> None:
    stage.edit(name, topology={**stage.job(name)["spec"]["topology"], **changes})


def _tolerate(stage: Stage, name: str, taints: str) -> None:
    more = [re.fullmatch(r"(.+)=(.*):(.+)", taint) for taint in taints.split(", ")]
    added = [{"key": one[1], "operator": "Equal", "value": one[2], "effect": one[3]} for one in more if one is not None]
    stage.edit(name, tolerations=[*stage.job(name)["spec"].get("tolerations", []), *added])


def _unselect(stage: Stage, name: str, labels: str) -> None:
    stage.edit(name, nodeSelector={label.split("=", 1)[0]: None for label in labels.split(", ")})


def _accept(stage: Stage, name: str, product: str) -> None:
    stage.edit(name, accelerators=[*stage.job(name)["spec"]["accelerators"], {"product": product}])


def _have_fewer_pods(stage: Stage, name: str, field: str, pods: str) -> None:
    stage.edit(name, **({"numNodes": int(pods)} if field == "numNodes" else {"elastic": {"minNodes": int(pods)}}))


def _shrink(stage: Stage, name: str, amount: str, what: str) -> None:
    resource, unit = {"accelerator": (_GPU, ""), "CPU": ("cpu", ""), "GiB of memory": ("memory", "Gi")}[what]
    stage.edit(name, resourcesPerNode={resource: int(amount) if resource == _GPU else amount + unit})


def _move_quota(stage: Stage, name: str, queue: str, product: str, nominal: str) -> None:
    quotas = [one for one in stage.queue(queue)["spec"].get("quotas", []) if one["product"] != product]
    before = next((one for one in stage.queue(queue)["spec"].get("quotas", []) if one["product"] == product), {})
    stage.edit_queue(queue, quotas=[*quotas, {**before, "product": product, "nominal": int(nominal)}])


def _allow(stage: Stage, name: str, resource: str, quota: str, namespace: str, amount: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/{quota}"
    stage.world.client.must("PATCH", path, {"spec": {"hard": {resource: amount}}}, kind=MERGE)


def _suspend(stage: Stage, name: str, other: str) -> None:
    stage.edit(stage.short(other), suspend=True)


def _end(stage: Stage, name: str, other: str) -> None:
    stage.end(stage.short(other))


def _bring_back(stage: Stage, name: str, told: str) -> None:
    for node in re.findall(r"(\S+) \(cordoned\)", told):
        stage.world.cordon(node, wanted=False)


def _add_nodes(stage: Stage, name: str, count: str, like: str) -> None:
    for number in range(int(count)):
        stage.add_copy_of_node(like, f"{like}-new-{number}")


_CHANGES: dict[str, tuple[str, Callable[..., None]]] = {
    "TopologyPreferred": (
        r"wish for one .+ \(topology\.mode: Preferred\)",
        lambda stage, name: _topology(stage, name, mode="Preferred"),
    ),
    "WiderLevel": (
        r"require one .+ \(topology\.level: (.+)\)",
        lambda stage, name, level: _topology(stage, name, level=level),
    ),
    "AvoidedNodesAllowed": (
        r"allow the nodes that it avoids after failures: .+ \(failurePolicy\.avoidFailedNodes: false\)",
        lambda stage, name: stage.edit(name, failurePolicy={"avoidFailedNodes": False}),
    ),
    "TaintTolerated": (r"tolerate (.+) \(tolerations\)", _tolerate),
    "WithoutSelector": (r"remove (.+) from the nodeSelector", _unselect),
    "OtherProduct": (r"accept (.+) too \(accelerators\)", _accept),
    "OtherQueue": (r'use queue ".+" \(queue: (.+)\)', lambda stage, name, queue: stage.edit(name, queue=queue)),
    "SmallerPods": (r"ask for (\d+) (accelerator|CPU|GiB of memory)s? per pod .+ \(resourcesPerNode\)", _shrink),
    "FewerPods": (
        r"(?:ask for|run with) .+ \((numNodes|elastic\.minNodes): (\d+)(?:, or \2 in elastic\.allowedNodes)?\)",
        _have_fewer_pods,
    ),
    "HigherPriority": (
        r'use PriorityClass ".+" of \d+ instead of -?\d+ \(priorityClassName: (.+)\)',
        lambda stage, name, named: stage.edit(name, priorityClassName=named),
    ),
    "JobsMoved": (
        r"move .+ to other nodes, which loses \d+ .+ \(annotation (\S+)=(\d+)\)",
        lambda stage, name, annotation, amount: stage.annotate(name, **{annotation: amount}),
    ),
    "ReservationReleased": (r"suspend (.+), for which room is kept \(suspend: true\)", _suspend),
    "MoreQuota": (r'give queue "(.+)" \d+ more of (.+): (\d+) instead of \d+', _move_quota),
    "MoreResourceQuota": (r'raise (.+) of ResourceQuota "(.+)" in namespace "(.+)" from \S+ to (\S+)', _allow),
    "JobEnded": (r"end (.+), which .+", _end),
    "NodesBack": (r"bring back (.+)", _bring_back),
    "MoreNodes": (r"add (\d+) more nodes? like (.+)", _add_nodes),
}
