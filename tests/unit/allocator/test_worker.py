"""The worker process: answers, watchdog, crashes, signals, and the death of its parent."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator

import pytest

import stowplan_allocator as sa
from stowplan_allocator import worker as worker_module
from stowplan_allocator.bench import workloads
from stowplan_allocator.worker import PlannerWorker
from unit.allocator import worlds

# Each starts processes that load a solver.
pytestmark = pytest.mark.slow


@pytest.fixture
async def worker() -> AsyncIterator[PlannerWorker]:
    made = PlannerWorker(grace_seconds=0.5)
    yield made
    await made.aclose()


def some_snapshot(num_jobs: int = 3) -> sa.Snapshot:
    return worlds.snapshot([worlds.node("n1")], [worlds.job(f"j{i}", gpus=4) for i in range(num_jobs)])


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while is_alive(pid):  # noqa: ASYNC110 - nothing tells of another process's end
            await asyncio.sleep(0.05)


async def test_the_worker_gives_the_plan_that_a_direct_call_gives(worker: PlannerWorker) -> None:
    snapshot = some_snapshot()
    assert await worker.plan(snapshot, sa.Settings()) == sa.plan(snapshot)


async def test_one_process_serves_many_calls_and_callers_wait_in_line(worker: PlannerWorker) -> None:
    snapshots = [some_snapshot(n) for n in (1, 2, 3, 4)]
    plans = await asyncio.gather(*(worker.plan(snapshot, sa.Settings()) for snapshot in snapshots))
    assert [len(plan.placements) for plan in plans] == [1, 2, 2, 2]
    pid = worker.pid
    await worker.plan(snapshots[0], sa.Settings())
    assert worker.pid == pid


async def test_a_users_error_comes_back_as_itself(worker: PlannerWorker) -> None:
    node = worlds.node("n1")
    with pytest.raises(ValueError, match="twice"):
        await worker.plan(worlds.snapshot([node, node], []), sa.Settings())
    assert await worker.plan(some_snapshot(), sa.Settings())


async def test_an_overrunning_solver_is_killed_and_the_greedy_plan_says_why(worker: PlannerWorker) -> None:
    await worker.plan(some_snapshot(), sa.Settings())
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # as deaf as a solver that has lost itself
    started = time.monotonic()
    plan = await worker.plan(some_snapshot(), sa.Settings(time_limit_seconds=0.5))
    assert time.monotonic() - started < 5
    assert plan.certificate.status is sa.SolveStatus.GREEDY
    assert "overran its time limit" in plan.certificate.note
    assert len(plan.placements) == 2
    assert not is_alive(pid)
    again = await worker.plan(some_snapshot(), sa.Settings())
    assert again.certificate.status is sa.SolveStatus.OPTIMAL


async def test_a_plan_that_takes_too_long_is_replaced_by_the_greedy_one_that_the_worker_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every job a shape of its own: far more work than the limit allows, in Python and not in a solver.
    snapshot = workloads.steady(
        num_nodes=1_500,
        num_jobs=1_500,
        num_running=0,
        num_shapes=60,
        seed=1,
        demand=1.5,
        mix=workloads.Mix.DISTINCT,
    )

    def never(*args: object) -> sa.Plan:
        raise AssertionError("the parent must not plan while it has a plan in hand")

    monkeypatch.setattr(worker_module, "plan", never)
    made = PlannerWorker(grace_seconds=60.0)
    try:
        plan = await made.plan(snapshot, sa.Settings(time_limit_seconds=0.3, explain=False))
    finally:
        await made.aclose()
    assert plan.certificate.status is sa.SolveStatus.GREEDY
    assert "overran its time limit" in plan.certificate.note
    assert plan.placements


async def test_a_worker_that_is_slow_to_read_a_large_question_gets_the_same_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = worlds.snapshot([worlds.node(f"n{i}") for i in range(2_000)], [worlds.job("j")])
    made = PlannerWorker(grace_seconds=60.0)
    try:
        await made.plan(some_snapshot(), sa.Settings())
        assert made.pid is not None
        os.kill(made.pid, signal.SIGSTOP)
        monkeypatch.setattr(worker_module, "plan", None)  # the parent need not plan
        asked = asyncio.create_task(made.plan(snapshot, sa.Settings(time_limit_seconds=0.05)))
        await asyncio.sleep(0.5)
        os.kill(made.pid, signal.SIGCONT)
        assert (await asked).placements
    finally:
        await made.aclose()


async def test_a_crashed_worker_is_started_anew(worker: PlannerWorker) -> None:
    await worker.plan(some_snapshot(), sa.Settings())
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_until_gone(pid)
    plan = await worker.plan(some_snapshot(), sa.Settings())
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL
    assert worker.pid != pid


async def test_an_interrupt_from_the_terminal_does_not_end_the_worker(worker: PlannerWorker) -> None:
    await worker.plan(some_snapshot(), sa.Settings())
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    await worker.plan(some_snapshot(), sa.Settings())
    assert worker.pid == pid


async def test_a_cancelled_call_leaves_no_answer_for_the_next_one(worker: PlannerWorker) -> None:
    await worker.plan(some_snapshot(), sa.Settings())
    call = asyncio.create_task(worker.plan(some_snapshot(4), sa.Settings()))
    await asyncio.sleep(0.002)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    plan = await worker.plan(some_snapshot(1), sa.Settings())
    assert len(plan.placements) == 1
    assert not plan.waiting


async def test_close_ends_the_process(worker: PlannerWorker) -> None:
    await worker.plan(some_snapshot(), sa.Settings())
    pid = worker.pid
    assert pid is not None
    worker.close()
    worker.close()
    await wait_until_gone(pid)


PARENT = """
import asyncio, os, sys
import stowplan_allocator as sa
from stowplan_allocator.worker import PlannerWorker
async def main():
    worker = PlannerWorker()
    await worker.plan(sa.Snapshot((), ()), sa.Settings())
    print(worker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_worker_dies_with_its_parent() -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and outlives no test
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert is_alive(pid)
        parent.kill()
        parent.wait()
    await wait_until_gone(pid)


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


def test_garbage_among_what_was_kept_is_found_now_and_then() -> None:
    ring = Ring()
    found = weakref.ref(ring)
    try:
        worker_module.collect_garbage(num_plans=1)
        del ring
        worker_module.collect_garbage(num_plans=2)
        assert found() is not None
        worker_module.collect_garbage(num_plans=worker_module.PLANS_BETWEEN_FULL_COLLECTIONS)
        assert found() is None
    finally:
        gc.unfreeze()
