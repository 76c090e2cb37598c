"""What the settings file says about planning reaches the allocator, and its certificate reaches the job."""

from __future__ import annotations

import pytest

import stowplan_allocator
from fakes import world
from fakes.builders import a_job, a_node
from stowplan_allocator import types
from stowplan_operator import settings


@pytest.mark.parametrize("preemption", [types.Preemption.NEVER, types.Preemption.LOWER_PRIORITY])
@pytest.mark.parametrize("strategy", types.Strategy)
async def test_every_planner_setting_reaches_the_allocator(
    strategy: types.Strategy, preemption: types.Preemption, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[types.Settings] = []

    async def plan(_: world.InlineSolver, snapshot: types.Snapshot, chosen: types.Settings) -> types.Plan:
        seen.append(chosen)
        return stowplan_allocator.plan(snapshot, chosen)

    monkeypatch.setattr(world.InlineSolver, "plan", plan)
    raw = {
        "strategy": strategy.value,
        "solver": "HiGHS",
        "seed": 7,
        "gapTolerance": 0.01,
        "timeLimitSeconds": 5,
        "lateTiersSeconds": 1,
    }
    cluster = world.World(
        a_node("n1"),
        a_node("n2"),
        settings=settings.parse(
            {"planner": raw, "preemption": {"policy": preemption.value}, "elastic": {"horizonSeconds": 600}}
        ),
    )
    cluster.submit(a_job("a"))
    await cluster.settle()
    assert cluster.phase("a") == "Running"
    assert seen[0] == types.Settings(
        strategy=strategy,
        solver="HiGHS",
        time_limit_seconds=5,
        gap_tolerance=0.01,
        late_tiers_seconds=1,
        seed=7,
        preemption=preemption,
        resize=True,
        resize_horizon_seconds=600,
    )
