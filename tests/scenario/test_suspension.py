"""A suspended job gives its place back, keeps what it has done, and starts again when its user says so."""

from __future__ import annotations

from fakes.builders import a_job
from fakes.world import two_nodes


async def test_suspend_gives_the_place_back_and_resume_takes_one_again() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(checkpoint={"gracePeriodSeconds": 120}))
    await world.settle()
    world.submit(a_job("b"))
    world.machinery.terminates = False
    world.edit("a", suspend=True)
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Suspended", "WaitingForOldPods")
    assert world.phase("b") == "Pending", "pods that may still save keep their accelerators"
    pod = world.server.get("pods", "team", "a-1-0")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 120
    world.machinery.terminates = True
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.phase("b")) == ("Suspended", "Suspended", "Running")
    assert world.condition("a", "Suspended") == "True"
    assert world.status("a")["history"][-1]["outcome"] == "Suspended"
    world.edit("a", suspend=False)
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Pending", "WaitingForCapacity")
    world.succeed("b")
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"], world.status("a")["restarts"]) == ("Running", 2, 0)
    assert world.condition("a", "Suspended") == "False"


async def test_a_job_submitted_suspended_waits_for_its_user() -> None:
    world = two_nodes()
    world.submit(a_job("a").suspended())
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.pod_names("a")) == ("Suspended", "Suspended", [])
    assert len(world.writes("patch")) == 1
    world.edit("a", suspend=False, numNodes=1)
    await world.settle()
    assert (world.phase("a"), world.status("a")["ready"]) == ("Running", "1/1")


async def test_a_suspended_job_may_change_its_size() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.edit("a", suspend=True)
    await world.settle()
    world.edit("a", suspend=False, numNodes=1)
    await world.settle()
    assert (world.status("a")["ready"], world.gang("a").keys()) == ("1/1", {0})
