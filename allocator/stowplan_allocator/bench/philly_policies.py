"""The policies of ``bench philly``: ours as settings of the product, and those that we compare with.

What must stay true: only policies named clairvoyant see true run times; ours see what users say,
or nothing; and the rank that the quick way computes is the one that ``plan()`` goes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator import problem as problems
from stowplan_allocator import types
from stowplan_allocator.bench import philly_ranked
from stowplan_allocator.simulate import deciding, live, workload
from stowplan_allocator.simulate.lives import FULL_SPEED, Life

# Two-dimensional least attained service: its queues are parted at so many accelerator-seconds. Chosen for it on the
# first two weeks of the trace, as ours are: two queues instead of three are worse there.
LAS_LEVELS = (36_000, 360_000)


@dataclass(frozen=True, slots=True)
class Policy:
    """What ``philly`` needs to know. ``restart_seconds`` is what each restart takes on the accelerators."""

    what: str
    restart_seconds: int = 0
    sees_estimates: bool = False


POLICIES = {
    "fifo": Policy("by age, nobody overtakes"),
    "fifo-backfill": Policy("plan() by age: whoever fits beside all before him starts"),
    "sjf": Policy("clairvoyant: shortest true run time first, with backfilling"),
    "srtf": Policy("clairvoyant: shortest true remaining time first, preemption for nothing"),
    "las": Policy("least attained service in two dimensions, by queues, as Tiresias has it", 60),
    "stow": Policy("plan() with order: shortest, by what users say", sees_estimates=True),
    "stow-preempt": Policy("order: shortest, preemption: QueueOrder, by what users say", 60, sees_estimates=True),
    "stow-attained": Policy("order: least-attained, preemption: QueueOrder, no estimates", 60),
    "stow-preempt-plan": Policy(
        "stow-preempt, with victims chosen by plan() itself: hours for a whole trace", 60, sees_estimates=True
    ),
    "no-wait": Policy("a bound: every job starts at once"),
}

# What a whole trace takes minutes for.
QUICK = tuple(name for name in POLICIES if name != "stow-preempt-plan")


def decider(policy: str, nodes: Sequence[types.Node], submissions: Sequence[workload.Submission]) -> deciding.Decider:
    """The decider behind a policy's name."""
    jobs = [submission.job for submission in submissions]
    greedy = types.Settings(strategy=types.Strategy.GREEDY, explain=False)
    if policy == "fifo":
        return philly_ranked.Strict(nodes, jobs=jobs, levels=(), settings=greedy)
    if policy == "fifo-backfill":
        return live.ByLiveStock(nodes, jobs=jobs, levels=(), settings=greedy)
    if policy == "sjf":
        return live.ByLiveStock(nodes, jobs=jobs, levels=(), settings=greedy, rank=true_left)
    if policy == "srtf":
        return philly_ranked.Displacing(nodes, jobs=jobs, rank=true_left, standing=true_left)
    if policy == "las":
        return philly_ranked.Displacing(nodes, jobs=jobs, rank=served, standing=served)
    if policy == "stow":
        shortest = types.Settings(strategy=types.Strategy.GREEDY, order=types.QueueOrder.SHORTEST, explain=False)
        return live.ByLiveStock(nodes, jobs=jobs, levels=(), settings=shortest)
    if policy == "stow-preempt":
        return philly_ranked.Displacing(nodes, jobs=jobs, rank=shortest_turn, standing=shortest_standing)
    if policy == "stow-attained":
        return philly_ranked.Displacing(nodes, jobs=jobs, rank=attained_turn, standing=attained_turn)
    if policy == "stow-preempt-plan":
        return deciding.BySnapshot(
            nodes,
            levels=(),
            settings=types.Settings(
                strategy=types.Strategy.GREEDY,
                order=types.QueueOrder.SHORTEST,
                preemption=types.Preemption.QUEUE_ORDER,
                explain=False,
            ),
        )
    raise ValueError(f'policy "{policy}" is unknown; use one of {", ".join(POLICIES)}')


def true_left(life: Life, now: int) -> live.Key:
    """The true remaining time."""
    return (life.work_needed - life.worked(now), life.number)


def served(life: Life, now: int) -> live.Key:
    """The queue of what the job has had, and age."""
    had = attained(life, now)
    return (sum(had >= level for level in LAS_LEVELS), life.number)


def attained(life: Life, now: int) -> int:
    """Accelerator-seconds so far."""
    return life.attained + ((now - life.since) * life.accelerators if life.placement is not None else 0)


def shortest_turn(life: Life, now: int) -> live.Key:
    """``problem.queue_key`` by expected time, of ``life.seen(now)``."""
    return (life.job.created_at_seconds + problems.STRETCH * _expected(life, now), life.number)


def shortest_standing(life: Life, now: int) -> live.Key:
    """``problem.standing_key`` by expected time, of ``life.seen(now)``."""
    left = max(0, _expected(life, now) // 2 - life.restarts.restart_seconds)
    return (life.job.created_at_seconds + problems.STRETCH * left, life.number)


def attained_turn(life: Life, now: int) -> live.Key:
    """``problem.queue_key`` by what a job has had, of ``life.seen(now)``."""
    level = problems.attained_level(attained(life, now))
    return (life.job.created_at_seconds + problems.STRETCH * level, life.number)


def _expected(life: Life, now: int) -> int:
    worked = life.worked(now) // FULL_SPEED
    left = workload.expected_left(life.job.expected_seconds, worked_seconds=worked)
    if left is None:
        left = max(problems.UNKNOWN_SECONDS, attained(life, now) // max(1, life.accelerators))
    return left
