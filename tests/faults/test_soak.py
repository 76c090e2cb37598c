"""Random faults over a thousand short jobs: every job ends, and the oracle finds nothing in the whole history."""

from __future__ import annotations

import os
import time

import pytest

from faults import oracle, records
from faults.runner import Runner
from faults.sampling import RUNS_ALL
from faults.soak import NUM_SOAK_NODES, Soak
from world.cluster import GPUS_PER_NODE, NUM_NODES

pytestmark = pytest.mark.faults
NUM_JOBS = 1000 if RUNS_ALL else 20
SEED = int(os.environ.get("STOWPLAN_FAULTS_SEED", "20261122"))


def test_soak(runner: Runner) -> None:
    print(f"soak of {NUM_JOBS} jobs with seed {SEED}")
    soak = Soak(runner, seed=SEED, num_jobs=NUM_JOBS)
    began = time.monotonic()
    stuck: list[str] = []
    try:
        soak.run()
    except TimeoutError as error:
        stuck.append(f"{error}: {soak.standing()}")
    events = runner.world.history.events(soak.namespace)
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s, {len(events)} events, {len(soak.deleted)} deleted by users, faults {dict(soak.tally)}")
    broken = [*stuck, *oracle.violations(events, gpus_per_node=GPUS_PER_NODE)]
    broken += [f"{name} never ended" for name in soak.never_ended()]
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(soak.tally.items()))
    records.note(kind="soak", flow=f"{NUM_JOBS} jobs, seed {SEED}", fault=kinds, broken=broken, seconds=seconds)
    print("\n".join(broken) or "no violation")
    runner.world.empty(soak.namespace)
    for index in range(NUM_NODES, NUM_SOAK_NODES):
        runner.world.remove_node(f"node-{index}")
    assert not broken, "\n".join(broken)
