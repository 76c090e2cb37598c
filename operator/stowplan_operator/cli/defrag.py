"""``defrag``: which running jobs would move so that a waiting one fits, or whole nodes become free, at what price.

Pure but for planning; shown before anything is done. What must stay true: the moves for a job are those that the
operator's own ``plan`` decides for this snapshot, settings and budget, and no others; a price is told with the proven
least; the command that asks for the moves names what they may lose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

import stowplan_allocator
from stowplan_allocator import defragmenting, moving, types
from stowplan_operator import observation
from stowplan_operator.cli import figures, output, words
from stowplan_operator.cli.output import Column
from stowplan_operator.cli.words import Speaker

# More than any moves lose: what a question without --budget may cost.
_ANY = 10**12
_NODES_NAMED = 3
# What jobs would lose grows until they are told to move: without --budget the command allows a quarter more.
_MARGIN = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What moves do for a job (None: for whole nodes of each product, in ``found``), within the ``budget``.

    ``bound`` is the proven least that moves for the job lose; ``beyond`` is what they would lose where that is more
    than the budget, or than the operator may spend in this hour. ``starts`` are waiting jobs that then have a place,
    ``why_not`` says why there are no moves.
    """

    snapshot: types.Snapshot
    budget: int | None
    job: types.Job | None = None
    moves: tuple[types.Move, ...] = ()
    bound: int = 0
    beyond: int | None = None
    starts: Mapping[str, types.Placement] = field(default_factory=dict)
    found: tuple[defragmenting.Defragmentation, ...] = ()
    why_not: str = ""

    @property
    def is_yes(self) -> bool:
        """Whether moves do what was asked, or the job starts without."""
        return bool(self.moves or self.starts) if self.job else any(one.steps for one in self.found)

    @property
    def cost(self) -> int:
        """What the moves lose, in GPU-seconds."""
        return sum(move.cost for move in self.moves)

    @property
    def after(self) -> types.Snapshot:
        """The cluster once all have moved and started."""
        places = {move.job_id: move.placement for move in self.moves} | dict(self.starts)
        jobs = (
            dataclasses.replace(job, placement=places[job.id]) if job.id in places else job
            for job in self.snapshot.jobs
        )
        return dataclasses.replace(self.snapshot, jobs=tuple(jobs))


def for_job(seen: observation.Observation, job: types.Job, *, budget: int | None) -> Answer:
    """The moves that the operator would decide if the job asked for room now."""
    most = _most(seen, budget=budget)
    snapshot = _asking(seen.counted_upon, job.id, most)
    if job.placement is not None:
        return Answer(snapshot, budget, job, why_not="it has its place")
    plan = stowplan_allocator.plan(snapshot, seen.settings)
    moves = tuple(move for move in plan.moves if move.for_job == job.id)
    starts = dict(plan.placements)
    if moves:
        bound = next((int(tier.bound) for tier in plan.certificate.tiers if tier.name == "moves"), 0)
        starts[job.id] = plan.held[job.id]
        return Answer(snapshot, budget, job, moves, bound, starts=starts)
    if job.id in plan.placements:
        return Answer(snapshot, budget, job, starts={job.id: plan.placements[job.id]})
    found = moving.moves(snapshot, job.id, settings=seen.settings)
    reason = plan.waiting[job.id]
    if found is not None and found.cost > most:
        why_not = reason.message if most == budget else _hour_text(seen.moving, cost=found.cost)
        return Answer(snapshot, budget, job, beyond=found.cost, bound=found.bound, why_not=why_not)
    said = f"{reason.reason.value}: {reason.message}"
    return Answer(snapshot, budget, job, why_not=f"{said}; {_OFF}" if _is_off(seen) else said)


def for_nodes(seen: observation.Observation, *, budget: int | None) -> Answer:
    """Moves that make whole nodes free, of each product."""
    found = defragmenting.defragment(seen.snapshot, budget=_ANY if budget is None else budget, settings=seen.settings)
    return Answer(seen.snapshot, budget, found=found, why_not=_OFF if _is_off(seen) else "")


_OFF = "the operator moves nobody (setting defragmentation.policy: Never)"


def _is_off(seen: observation.Observation) -> bool:
    return seen.moving is not None and seen.moving.policy == "Never"


def _most(seen: observation.Observation, *, budget: int | None) -> int:
    """What moves for a job may lose: the question's budget, and no more than the operator may spend."""
    most = _ANY if budget is None else budget
    return most if seen.moving is None else min(most, seen.moving.budget_left)


def _hour_text(allowed: observation.Moving | None, *, cost: int) -> str:
    assert allowed is not None, "only the operator's own budget is another one than the question's"
    setting = "(setting defragmentation.budgetGpuSecondsPerHour)"
    if cost > allowed.budget:
        return f"all moves of an hour may lose {words.gpu_time(allowed.budget)} {setting}; have it raised"
    left = f"{words.gpu_time(allowed.budget_left)} of {words.gpu_time(allowed.budget)}"
    return f"{left} are left of what all moves of an hour may lose {setting}; wait until those before are an hour ago"


def _asking(snapshot: types.Snapshot, job_id: str, most: int) -> types.Snapshot:
    """The snapshot in which this job alone asks."""
    jobs = tuple(dataclasses.replace(job, make_room=most if job.id == job_id else 0) for job in snapshot.jobs)
    return dataclasses.replace(snapshot, jobs=jobs, move_budget=most)


def command(answer: Answer, speaker: Speaker) -> str:
    """The command that asks the operator for these moves; empty where there are none."""
    if answer.job is None or not answer.moves:
        return ""
    namespace, _, name = answer.job.name.rpartition("/")
    most = answer.budget if answer.budget is not None else answer.cost + answer.cost // _MARGIN
    note = f"{types.ANNOTATION_MAKE_ROOM}={max(most, 1)}"
    return speaker.elsewhere("annotate", "tj", name, *(("-n", namespace) if namespace else ()), note)


def show(answer: Answer, speaker: Speaker, *, width: int) -> RenderableType:
    """The answer for people."""
    return Group(*(_job_blocks(answer, speaker, width=width) if answer.job else _node_blocks(answer, width=width)))


_MOVES = (
    Column("JOB", shrinks_to=14, wraps=True),
    Column("GPUS"),
    Column("FROM", shrinks_to=12, wraps=True),
    Column("TO", shrinks_to=12, wraps=True),
    Column("LOSES"),
)
_SIDES = (Column(""), Column("NOW"), Column("THEN"))


def _job_blocks(answer: Answer, speaker: Speaker, *, width: int) -> Iterator[RenderableType]:
    job = answer.job
    assert job is not None, "asked of a job"
    gpus = words.count(job.num_pods * job.pod.accelerators, "GPU")
    if not answer.is_yes:
        if answer.beyond is None:
            yield Text(f"No moves make room for {job.name} ({gpus}).", style="bold")
        else:
            least = "" if answer.bound >= answer.beyond else f" (at least {words.gpu_time(answer.bound)})"
            most = "the budget" if answer.snapshot.move_budget == answer.budget else "the operator may spend now"
            yield Text(
                f"Moves for {job.name} ({gpus}) would lose {words.gpu_time(answer.beyond)}{least}, more than {most}.",
                style="bold",
            )
        yield output.indented(output.facts([("Why", answer.why_not)]))
        return
    if not answer.moves:
        yield Text(f"{job.name} ({gpus}) starts without any moves.", style="bold")
        return
    number = len(answer.moves)
    yield Text(f"{words.count(number, 'job')} would move so that {job.name} ({gpus}) starts", style="bold")
    yield Text()
    yield output.indented(output.plain_table(_MOVES, list(_rows(answer.snapshot, answer.moves)), width=width - 2))
    yield Text()
    yield output.indented(output.facts([("Loses", _price(answer.cost, answer.bound))]))
    yield Text()
    yield output.indented(output.plain_table(_SIDES, list(_sides(answer)), width=width - 2))
    yield Text()
    yield Text("Nothing has been moved. To ask for it:", style="dim")
    yield output.indented(Text(command(answer, speaker), style="cyan"))


def _rows(snapshot: types.Snapshot, moves: tuple[types.Move, ...]) -> Iterator[tuple[str, str, str, str, str]]:
    jobs = {job.id: job for job in snapshot.jobs}
    for move in moves:
        job = jobs[move.job_id]
        gpus = move.placement.num_pods * job.pod.accelerators
        yield job.name, str(gpus), _where(job.placement), _where(move.placement), words.gpu_time(move.cost)


def _where(placement: types.Placement | None) -> str:
    return figures.where(placement, most=_NODES_NAMED)


def _price(cost: int, bound: int) -> str:
    least = f"at least {words.gpu_time(bound)} would be lost by any"
    proof = "no moves that do it lose less" if bound >= cost else least
    return f"{words.gpu_time(cost)} of work ({proof})"


def _sides(answer: Answer) -> Iterator[tuple[str, str, str]]:
    before, after = (free_of(snapshot) for snapshot in (answer.snapshot, answer.after))
    waiting = [sum(job.placement is None for job in one.jobs) for one in (answer.snapshot, answer.after)]
    yield "Jobs waiting", str(waiting[0]), str(waiting[1])
    yield "GPUs free", str(before.gpus), str(after.gpus)
    yield "Whole nodes free", str(before.nodes), str(after.nodes)
    yield "  fragmented", figures.share(before.fragmented), figures.share(after.fragmented)


@dataclass(frozen=True, slots=True)
class Free:
    """GPUs that are free, nodes all of whose GPUs are, and the share of free GPUs that usual pods cannot use."""

    gpus: int
    nodes: int
    fragmented: float | None


def free_of(snapshot: types.Snapshot) -> Free:
    """What is free."""
    nodes = figures.of_nodes(snapshot)
    totals = figures.totals(nodes, sizes=figures.pod_sizes(snapshot.jobs))
    return Free(totals.free, sum(one.free == one.total for one in nodes), totals.fragmented)


def _node_blocks(answer: Answer, *, width: int) -> Iterator[RenderableType]:
    for index, one in enumerate(answer.found):
        if index:
            yield Text()
        said = f"{words.count(one.slots, 'node')} of {words.count(one.size, 'GPU')} wholly free"
        yield Text(f"{one.product}: {said}; all free GPUs would make {one.most}", style="bold")
        for step in one.steps:
            best = ", the most for the work" if step is one.best and len(one.steps) > 1 else ""
            yield Text(f"\n  {step.more} more for {_price(step.cost, step.bound)}{best}")
            yield output.indented(output.plain_table(_MOVES, list(_rows(answer.snapshot, step.moves)), width=width - 2))
        if one.cut:
            yield Text(f"  {one.cut}", style="dim")
        elif not one.steps and one.most > one.slots and answer.why_not:
            yield Text(f"  No moves make one more free: {answer.why_not}.")
        elif not one.steps and one.most > one.slots:
            yield Text("  No moves make one more free: other jobs there must not be disturbed, or fit nowhere else.")
    if not answer.found:
        yield Text("No node has accelerators.")
    yield Text(
        "\nNothing has been moved: jobs move only for one that waits (kubectl stowplan defrag JOB).", style="dim"
    )
