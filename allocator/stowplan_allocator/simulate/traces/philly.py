"""Microsoft's Philly trace of 2017 ("Analysis of Large-Scale Multi-Tenant GPU Clusters", USENIX ATC'19).

Published as msr-fiddle/philly-traces under CC BY 4.0; this reads the reduced form of a later artefact: one
line per job with the time of submission, the run time in seconds, its GPUs and its virtual cluster. What must stay
true: a job of more GPUs than a node has is a gang of whole nodes, as it was on that cluster.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from stowplan_allocator import inputs, types
from stowplan_allocator.simulate import loaders, values, workload
from stowplan_allocator.simulate.traces import columns

PRODUCT = "gpu"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the trace; the time of submission is in Unix seconds, read as UTC."""

    submitted_seconds: int
    duration_seconds: int
    num_gpus: int
    cluster: str


def read(path: pathlib.Path) -> tuple[Row, ...]:
    """All jobs, in the order of the file."""

    def make(line: columns.Line) -> Row:
        came = line.number("timestamp", read=values.moment)
        return Row(came, line.number("duration", read=values.seconds), line.number("num_gpus"), line.text("cluster"))

    return columns.read(path, needs=("timestamp", "duration", "num_gpus", "cluster"), make=make)


def nodes(num_gpus: int, *, per_node: int) -> tuple[types.Node, ...]:
    """A cluster of equal nodes with ``num_gpus`` GPUs in all."""
    if per_node < 1 or num_gpus < per_node or num_gpus % per_node:
        cause = f"{num_gpus} GPUs are no whole number of nodes with {per_node}"
        raise inputs.InputError([inputs.Fault("--gpus", cause, "give a multiple of --gpus-per-node")])
    count = num_gpus // per_node
    room = types.Resources(accelerators=per_node)
    width = len(str(count - 1))
    return tuple(types.Node(f"node-{index:0{width}}", PRODUCT, room, room) for index in range(count))


def submissions(rows: tuple[Row, ...], *, per_node: int) -> tuple[workload.Submission, ...]:
    """The jobs as gangs: as few pods as nodes of that size allow, all equal."""
    return tuple(_submission(row, f"philly-{number:05}", per_node=per_node) for number, row in enumerate(rows))


def _submission(row: Row, name: str, *, per_node: int) -> workload.Submission:
    pods = -(-row.num_gpus // per_node) or 1
    while row.num_gpus % pods:
        pods += 1
    job = types.Job(
        id=name,
        name=name,
        num_pods=pods,
        pod=types.Resources(accelerators=row.num_gpus // pods),
        created_at_seconds=row.submitted_seconds,
    )
    return workload.Submission(job, row.submitted_seconds, row.duration_seconds)


def scenario(path: pathlib.Path, *, num_gpus: int, per_node: int) -> loaders.Scenario:
    """The whole trace on a cluster of ``num_gpus`` GPUs."""
    return loaders.Scenario(nodes(num_gpus, per_node=per_node), submissions(read(path), per_node=per_node))
