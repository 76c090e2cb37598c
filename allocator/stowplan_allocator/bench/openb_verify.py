"""Whether the end of a run is possible at all, found anew from the trace and the list of stands.

What must stay true: nothing here uses the run's own bookkeeping. Every pod that stands somewhere gets a node of a
model that it accepts, its CPU and memory, and its devices; no node and no device gives more than it has; and no pod
that was dropped would still fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stowplan_allocator.bench.openb_cluster import Stand
from stowplan_allocator.bench.openb_workload import Workload
from stowplan_allocator.fragmentation import WHOLE


class OvercommitError(AssertionError):
    """A run gave what was not there, or refused what was."""


def verify(
    workload: Workload,
    *,
    arriving: Sequence[int],
    stands: Mapping[int, Stand],
    names: Sequence[str],
    all_fitting_placed: bool = True,
) -> int:
    """The thousandths of GPUs that nobody has at the end. Raises ``OvercommitError`` for an end that cannot be.

    ``all_fitting_placed`` asks also that no dropped pod fits at the end.
    """
    machines = {machine.name: machine for machine in workload.machines}
    nodes = [machines[name] for name in names]
    cpu = [machine.cpu_milli for machine in nodes]
    memory = [machine.memory_mib for machine in nodes]
    free = [[WHOLE] * machine.num_gpus for machine in nodes]
    for pod, stand in stands.items():
        want = workload.wants[arriving[pod]]
        where = f"pod {pod} of the sample on {names[stand.node]}"
        if want.kinds is not None and nodes[stand.node].model not in want.kinds:
            raise OvercommitError(f"{where}: it does not accept {nodes[stand.node].model}")
        if len(stand.devices) != want.num_gpus or len(set(stand.devices)) != want.num_gpus:
            raise OvercommitError(f"{where}: it has {len(set(stand.devices))} GPUs and wants {want.num_gpus}")
        cpu[stand.node] -= want.others[0]
        memory[stand.node] -= want.others[1]
        for device in stand.devices:
            free[stand.node][device] -= want.milli
        if min(cpu[stand.node], memory[stand.node], *free[stand.node]) < 0:
            raise OvercommitError(f"{where}: more CPU, memory or GPU is given than there is")
    if all_fitting_placed:
        dropped = {want for pod, want in enumerate(arriving) if pod not in stands}
        for want in (workload.wants[index] for index in sorted(dropped)):
            for i, machine in enumerate(nodes):
                fits = want.kinds is None or machine.model in want.kinds
                fits = fits and cpu[i] >= want.others[0] and memory[i] >= want.others[1]
                if fits and sum(amount >= want.milli for amount in free[i]) >= want.num_gpus:
                    raise OvercommitError(f"a dropped pod that wants {want} would fit on {machine.name}")
    return sum(map(sum, free))
