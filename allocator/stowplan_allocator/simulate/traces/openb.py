"""Alibaba's GPU cluster trace of 2023 ("Beware of Fragmentation", USENIX ATC'23): nodes and lists of pods.

Published in the repository hkust-adsl/kubernetes-scheduler-simulator, folder data/csv, under Apache-2.0. A pod
with ``num_gpu`` 1 may want a share of that GPU, ``gpu_milli`` thousandths; ``gpu_spec`` names the models that it
accepts. What must stay true: ``read_nodes`` and ``read_pods`` change nothing of what was published.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from stowplan_allocator import inputs, types
from stowplan_allocator.simulate import loaders, workload
from stowplan_allocator.simulate.traces import columns

NODES_FILE = "openb_node_list_gpu_node.csv"
PODS_FILE = "openb_pod_list_{}.csv"
WHOLE_GPU_MILLI = 1000


@dataclass(frozen=True, slots=True)
class Machine:
    """A line of the list of nodes."""

    name: str
    cpu_milli: int
    memory_mib: int
    num_gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A line of a list of pods. Times are seconds of the trace; None in the lists that have none."""

    name: str
    cpu_milli: int
    memory_mib: int
    num_gpus: int
    gpu_milli: int
    models: tuple[str, ...]
    created_at: int | None
    scheduled_at: int | None
    deleted_at: int | None


def read_nodes(folder: pathlib.Path) -> tuple[Machine, ...]:
    """The nodes of the cluster, in the order of the file."""

    def make(line: columns.Line) -> Machine:
        return Machine(
            name=line.text("sn"),
            cpu_milli=line.number("cpu_milli"),
            memory_mib=line.number("memory_mib"),
            num_gpus=line.number("gpu"),
            model=line.text("model"),
        )

    needs = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
    return columns.read(folder / NODES_FILE, needs=needs, make=make)


def read_pods(folder: pathlib.Path, *, name: str) -> tuple[Pod, ...]:
    """The pods of the list ``name`` (``default``, ``cpu050``, …), in the order of the file."""

    def make(line: columns.Line) -> Pod:
        def time(column: str) -> int | None:
            return line.number(column) if line.text(column) else None

        return Pod(
            name=line.text("name"),
            cpu_milli=line.number("cpu_milli"),
            memory_mib=line.number("memory_mib"),
            num_gpus=line.number("num_gpu"),
            gpu_milli=line.number("gpu_milli"),
            models=tuple(dict.fromkeys(model for model in line.text("gpu_spec").split("|") if model)),
            created_at=time("creation_time"),
            scheduled_at=time("scheduled_time"),
            deleted_at=time("deletion_time"),
        )

    needs = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    return columns.read(folder / PODS_FILE.format(name), needs=needs, make=make)


def node_of(machine: Machine) -> types.Node:
    """A machine as the allocator's node, all of it free."""
    room = types.Resources(machine.num_gpus, machine.cpu_milli, machine.memory_mib)
    return types.Node(machine.name, machine.model, available=room, allocatable=room)


def scenario(folder: pathlib.Path, *, name: str) -> loaders.Scenario:
    """The pods as single jobs at their times in the trace; one that wants a share of a GPU gets a whole one."""
    pods = read_pods(folder, name=name)
    if any(pod.created_at is None or pod.deleted_at is None for pod in pods):
        cause = "its pods have no times, so they cannot be replayed"
        fix = "take a list with creation and deletion times, such as default"
        raise inputs.InputError([inputs.Fault(str(folder / PODS_FILE.format(name)), cause, fix)])
    shares = sum(pod.num_gpus == 1 and pod.gpu_milli < WHOLE_GPU_MILLI for pod in pods)
    notes = [f"{shares} pods that want a share of a GPU get a whole one"] if shares else []
    nodes = tuple(node_of(machine) for machine in read_nodes(folder))
    return loaders.Scenario(nodes, tuple(_submission(pod) for pod in pods), notes=tuple(notes))


def _submission(pod: Pod) -> workload.Submission:
    created, deleted = pod.created_at or 0, pod.deleted_at or 0
    started = created if pod.scheduled_at is None else pod.scheduled_at
    job = types.Job(
        id=pod.name,
        name=pod.name,
        num_pods=1,
        pod=types.Resources(pod.num_gpus, pod.cpu_milli, pod.memory_mib),
        created_at_seconds=created,
        products=tuple(types.ProductChoice(model) for model in pod.models) if pod.num_gpus else (),
    )
    return workload.Submission(job, created, max(0, deleted - started))
