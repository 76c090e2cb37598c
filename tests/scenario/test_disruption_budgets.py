"""PodDisruptionBudgets hold for gangs that would lose their places."""

from __future__ import annotations

from fakes.builders import NAMESPACE, NOW, a_job, a_node
from fakes.world import World


def set_budget(world: World, allowed: int, *jobs: str) -> None:
    """A budget on the pods of these jobs, or what it now allows."""
    selector = {"matchExpressions": [{"key": "stowplan.dev/job", "operator": "In", "values": list(jobs)}]}
    status = {"disruptionsAllowed": allowed, "observedGeneration": 1}
    body = {"metadata": {"name": "pdb", "namespace": NAMESPACE}, "spec": {"selector": selector}, "status": status}
    if world.server.get("poddisruptionbudgets", NAMESPACE, "pdb") is None:
        world.server.create("poddisruptionbudgets", body)
    else:
        world.server.change("poddisruptionbudgets", NAMESPACE, "pdb", lambda one: one.update(status=status))


async def a_full_world(*names: str) -> World:
    """One node of four GPUs for each job."""
    world = World(*(a_node(f"n{i}") for i in range(len(names))))
    world.add_priority_class("high", 9)
    for i, name in enumerate(names):
        world.submit(a_job(name).nodes(1).created(NOW + i))
    await world.settle()
    assert {world.phase(name) for name in names} == {"Running"}
    return world


async def test_a_protected_gang_stays_and_the_waiting_job_says_which_budget_protects_it() -> None:
    world = await a_full_world("a")
    set_budget(world, 0, "a")
    world.submit(a_job("b").nodes(1).spec(priorityClassName="high").created(NOW + 9))
    await world.settle()
    assert (world.phase("a"), world.reason("b")) == ("Running", "WaitingForCapacity")
    assert world.status("b")["message"].endswith(
        'it may take the place of team/a, but PodDisruptionBudget "team/pdb" lets 0 of 1 pods be stopped'
    )
    assert world.status("b")["decision"]["numbers"]["disruption_budget"] == "team/pdb"
    set_budget(world, 1, "a")
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Pending", "Running")


async def test_another_gang_leaves_instead() -> None:
    world = await a_full_world("a", "b")
    set_budget(world, 0, "b")
    world.submit(a_job("c").nodes(1).spec(priorityClassName="high").created(NOW + 9))
    await world.settle()
    assert (world.phase("a"), world.phase("b"), world.phase("c")) == ("Pending", "Running", "Running")


async def test_gangs_of_one_budget_leave_one_after_the_other_however_late_its_status_is() -> None:
    world = await a_full_world("a", "b")
    set_budget(world, 1, "a", "b")
    world.machinery.terminates = False
    for name in "cd":
        world.submit(a_job(name).nodes(1).spec(priorityClassName="high").created(NOW + 9))
    await world.settle()
    # The status of the budget still says that one may be stopped: one is on its way out.
    assert sorted(world.phase(name) for name in "ab") == ["Pending", "Running"]
    set_budget(world, 0, "a", "b")
    world.machinery.terminates = True
    await world.settle()
    assert sorted(world.phase(name) for name in "abcd") == ["Pending", "Pending", "Running", "Running"]
