"""Plain English for the reasons: amounts with units, short lists of names, what a job needs.

What must stay true: a message fits on a terminal line or three, however large the cluster;
lists are cut with the number of what is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from stowplan_allocator import reserving, resources, types
from stowplan_allocator.census import Offer
from stowplan_allocator.eligibility import Profile
from stowplan_allocator.problem import Path, Request

MAX_NAMES = 4
_RESOURCES = {"accelerators": "accelerators", "cpu_milli": "CPUs", "memory_mib": "memory"}


def amount(value: int, dim: str) -> str:
    """An amount with its unit: ``4 accelerators``, ``1.5 CPUs``, ``32 GiB of memory``, ``2 rdma/hca``."""
    if dim == "accelerators":
        return "1 accelerator" if value == 1 else f"{value} accelerators"
    if dim == "cpu_milli":
        return "1 CPU" if value == 1000 else f"{value / 1000:g} CPUs"
    if dim == "memory_mib":
        return f"{value / 1024:.4g} GiB of memory" if value >= 1024 or value == 0 else f"{value} MiB of memory"
    if dim == "pods":
        return "room for 1 pod" if value == 1 else f"room for {value} pods"
    return f"{value} {dim}"


def free(value: int, dim: str) -> str:
    """How much is free, after a clause that named the resource: ``4 are free``, ``3 GiB is free``."""
    if dim == "memory_mib":
        return f"{amount(value, dim).removesuffix(' of memory')} is free"
    number = f"{value / 1000:g}" if dim == "cpu_milli" else str(value)
    return f"{number} {'is' if number == '1' else 'are'} free"


def resource(dim: str) -> str:
    """The name of a resource in a sentence."""
    return _RESOURCES.get(dim, dim)


def needs(request: Request, *, dims: Sequence[str]) -> str:
    """``2 pods × 4 NVIDIA-H100-80GB-HBM3``; without accelerators by CPU and memory."""
    pods = "1 pod" if request.num_pods == 1 else f"{request.num_pods} pods"
    size = request.vector[0]
    products = " or ".join(choice.product for choice in request.products)
    if size:
        what = f"{size} {products}" if products else amount(size, "accelerators")
    else:
        amounts = [(value, dim) for value, dim in zip(request.vector, dims, strict=True) if value]
        if request.has_devices:
            amounts = [(value, dim) for value, dim in amounts if resources.is_part_of_device(dim)]
        asked = [amount(value, dim) for value, dim in amounts if reserving.MARK not in dim and dim != "pods"]
        what = (" and ".join(asked) or "no resources") + (f" of {products}" if products else "")
    return f"{'at least ' if request.sizes else ''}{pods} × {what}"


def level(request: Request, *, levels: Sequence[str]) -> str:
    """The name of the request's topology level."""
    if request.level is None:
        return "cluster"
    return levels[request.level] if request.level < len(levels) else "node"


def arrangement(request: Request, *, levels: Sequence[str]) -> str:
    """How pods must stand to each other: ``in slices of 4 pods, each in one rack, with at most 2 pods in a zone``."""
    parts = []
    if request.required and request.slice_size:
        parts.append(f" in slices of {request.slice_size} pods, each in one {level(request, levels=levels)}")
    elif request.required:
        parts.append(f" in one {level(request, levels=levels)}")
    if request.spread is not None:
        where, most = request.spread
        pods = "1 pod" if most == 1 else f"{most} pods"
        parts.append(f" with at most {pods} in a {levels[where] if where < len(levels) else 'node'}")
    return ",".join(parts)


def domain(path: Path) -> str:
    """A domain as ``z1/r2``."""
    return "/".join(name or "?" for name in path)


def names(items: Sequence[str], *, number: int | None = None) -> str:
    """A list cut to a few names and the number of the others; ``number`` where the items are only the first of them."""
    number = len(items) if number is None else number
    if number <= MAX_NAMES:
        return ", ".join(items)
    return f"{', '.join(items[: MAX_NAMES - 1])} and {number - MAX_NAMES + 1} more"


def ahead(jobs: Sequence[str], *, number: int) -> str:
    """The jobs ahead, first names first: ``the 9 jobs ahead of it: a, b, c and 6 more``."""
    if not number:
        return "the jobs ahead of it"
    noun = "job" if number == 1 else f"{number} jobs"
    return f"the {noun} ahead of it: {names(jobs, number=number)}"


def each_of(count: int, kind: str) -> str:
    """``each of the 3 GPU nodes``."""
    return (f"each of the {count} {kind} nodes" if count > 1 else f"the only {kind} node").replace("  ", " ")


def selector(profile: Profile) -> str:
    """What a node lacks that fails the selector."""
    return f"lacks a label of the nodeSelector: {', '.join(f'{key}={value}' for key, value in profile.selector)}"


def affinity(profile: Profile) -> str:
    """What a node fails that satisfies no term of the affinity."""
    terms = [" and ".join(map(str, term)) or "an empty term, which matches no node" for term in profile.affinity]
    return f"fails the node affinity: {' or '.join(terms)}"


def capacity_type(profile: Profile) -> str:
    """What a node is that the job's kind of capacity excludes."""
    kind = "on-demand" if profile.capacity_type is types.CapacityType.SPOT else "spot"
    return f"is {kind}, and the job asks for capacity type {profile.capacity_type.value}"


def holding(count: int) -> str:
    """``all 3 matching nodes together hold``."""
    return f"all {count} matching nodes together hold" if count > 1 else "the only matching node holds"


def fitting(pods: int, of: int) -> str:
    """``1 of 2 pods fits``."""
    if pods == 0:
        return "no pod fits"
    return f"{pods} of {of} pods {'fits' if pods == 1 else 'fit'}"


def where(offer: Offer, *, request: Request) -> str:
    """What the emptiest nodes have free, as the end of a clause; names the CPU or memory that binds there."""
    parts = []
    sample = offer.sample()
    for name, free in sample[: MAX_NAMES - 1]:
        size = request.vector[0]
        if not size:
            parts.append(f"{name} has {amount(free[1], 'cpu_milli')} and {amount(free[2], 'memory_mib')} free")
            continue
        text = f"{name} has {free[0]} free"
        if free[0] >= size:
            if free[1] < request.vector[1]:
                text += f" but only {free[1] / 1000:g} of {amount(request.vector[1], 'cpu_milli')}"
            elif free[2] < request.vector[2]:
                text += f" but only {free[2] / 1024:.4g} of {amount(request.vector[2], 'memory_mib')}"
        parts.append(text)
    if not parts:
        return ""
    left = offer.nodes - offer.nodes_blocked - len(parts)
    if left > 0 and len(sample) >= MAX_NAMES:
        parts.append(f"{left} more nodes have no more")
    return ": " + ", ".join(parts)


def clock(seconds: int, *, now: int) -> str:
    """A moment (Unix time) as ``14:20:05 UTC``, with its date where it is a day or more from now."""
    form = "%H:%M:%S UTC" if abs(seconds - now) < 86_400 else "%Y-%m-%d %H:%M:%S UTC"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(form)
