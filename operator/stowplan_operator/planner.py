"""The planner: one level-triggered cycle from what is observed to what is written.

Every step may be the last before a crash: the next cycle, in a new process, reads the API server and converges to
the same end. Nothing is remembered between cycles that cannot be read again, except for answers that the watches
have not caught up with (``store``), the last plan, and readings of telemetry and progress.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from stowplan_allocator import lines, types
from stowplan_operator import (
    answers,
    api,
    children,
    defragmentation,
    displacing,
    estimates,
    expectations,
    gathering,
    kube,
    lifecycle,
    moments,
    node_watch,
    placing,
    preemption,
    queue_reporter,
    queueing,
    snapshot,
    states,
    status,
    steps,
    telemetry,
    writer,
)
from stowplan_operator.metrics import Metrics
from stowplan_operator.settings import Settings
from stowplan_operator.store import Store

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Solver(Protocol):
    """Plans off the event loop and keeps to the time limit."""

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        """See ``stowplan_allocator.plan``."""


class Planner:
    """Runs cycles. All I/O, the clock and the guard against acting without the Lease are injected."""

    def __init__(
        self,
        *,
        api_server: kube.KubeApi,
        store: Store,
        solver: Solver,
        metrics: Metrics,
        get_settings: Callable[[], Settings],
        get_readings: Callable[[], moments.Readings],
        namespace: str,
        guard: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        desk: answers.Desk | None = None,
    ) -> None:
        self._kube = api_server
        self._desk = desk
        self._store = store
        self._solver = solver
        self._metrics = metrics
        self._get_settings = get_settings
        self._get_readings = get_readings
        self._clock = clock
        self._writer = writer.Writer(api_server=api_server, store=store, metrics=metrics, guard=guard, clock=clock)
        self._last_snapshot: types.Snapshot | None = None
        self._last_plan: types.Plan | None = None
        self._guard = guard
        self._children = children.Children(api_server=api_server, store=store, writer=self._writer, clock=clock)
        # Placements that were written without an answer, by UID, with the resourceVersion of the job before the write:
        # while the job is still seen at that version, nobody knows whether it has its place, and no other job gets it.
        self._in_doubt: dict[str, tuple[str, types.Placement]] = {}
        self._queues = queue_reporter.QueueReporter(api_server=api_server, store=store, metrics=metrics, guard=guard)
        self._nodes = node_watch.NodeWatch(
            api_server=api_server, namespace=namespace, store=store, metrics=metrics, guard=guard
        )
        self._history = estimates.History()
        # Jobs that have been told that they stand on a node that looks sick, by UID.
        self._warned: set[str] = set()
        # What went wrong last with a job, by UID, so that it is logged once.
        self._faults: dict[str, str] = {}

    async def cycle(self) -> float:
        """One cycle; the number of seconds after which the clock alone calls for the next one."""
        # 1. Observe.
        settings, now = self._get_settings(), self._clock()
        queues = queueing.read(self._store.queues)
        jobs = states.observe(self._store, settings, queues=queues)
        moment = await self._observe(jobs, settings, now, queues)
        present = {state.job.uid for state in jobs}
        self._children.forget_all_but(present)
        self._faults = {state.job.uid: self._faults[state.job.uid] for state in jobs if state.job.uid in self._faults}
        # 2. End, start or release gangs as their pods show.
        await self._each(jobs, lambda state: self._advance(state, moment))
        # 3. Plan for those that want a place.
        scene = self._scene(moment)
        plan, positions = await self._plan(jobs, moment, scene)
        # 4. Take places back from those whom the plan stops, and write the placements, before any pod exists.
        orders = displacing.orders(plan)
        requests = {state.job.uid: state.request for state in jobs if state.request is not None}
        stopped = [state for state in jobs if state.job.uid in orders and not state.skip]
        await self._each(stopped, lambda state: self._stop(state, orders[state.job.uid], requests, moment))
        placed = [
            state
            for state in jobs
            if state.job.uid in plan.placements and not state.skip and gathering.may_start(state, scene)
        ]
        await self._each(placed, lambda state: self._place(state, plan, moment))
        # 5. Create and delete pods until they match the placements.
        await self._each(jobs, lambda state: self._children.match(state, settings))
        # 6. Say how every job does, once, where a user can see a change.
        await self._each(jobs, lambda state: self._report(state, plan, positions, moment, scene))
        await self._each(jobs, lambda state: self._warn(state, moment))
        await self._each(jobs, lambda state: self._expire(state, now))
        self._record(jobs, moment)
        if self._desk is not None:
            self._desk.put(self._seen(jobs, plan, moment, scene))
        # 7. Say how every queue stands.
        label = settings.product_label
        await self._queues.report(jobs, plan, moment.queues, product_label=label, now_seconds=now)
        return self._seconds_to_next(jobs, moment)

    async def _observe(
        self, jobs: Sequence[states.JobState], settings: Settings, now: float, queues: queueing.Queues
    ) -> moments.Moment:
        readings = self._get_readings()
        self._history.look(state.job for state in jobs)
        there = [state.job for state in jobs if state.wants_place]
        return moments.Moment(
            now=now,
            settings=settings,
            readings=readings,
            nodes=await self._nodes.look(jobs, readings.telemetry, settings, now_seconds=now),
            stale=telemetry.stale_message(readings.telemetry, now_seconds=now, settings=settings),
            expected=estimates.of_all(
                ((state.job, state.spec) for state in jobs),
                history=self._history,
                seconds_left=readings.seconds_left,
                now_seconds=int(now),  # as in snapshots, or an end that stays would fall into two of their seconds
                queue_limits={state.job.uid: state.run_limit for state in jobs if state.run_limit is not None},
            ),
            queues=queues,
            there=frozenset(job.key for job in there),
            num_waiting=sum(job.status.get("placement") is None for job in there),
        )

    async def _each(self, jobs: Sequence[states.JobState], step: Callable[[states.JobState], Awaitable[None]]) -> None:
        """Take one step for every job together. An error leaves its job as it is in this cycle, and no other."""
        outcomes = await asyncio.gather(*(step(state) for state in jobs), return_exceptions=True)
        failed = [(state, outcome) for state, outcome in zip(jobs, outcomes, strict=True) if outcome is not None]
        for _, outcome in failed:
            if not isinstance(outcome, Exception):
                raise outcome
        if failed:
            self._guard()  # without the Lease it was the guard that refused, and nothing goes on
        for state, outcome in failed:
            state.skip = True
            if self._faults.get(state.job.uid) != repr(outcome):
                self._faults[state.job.uid] = repr(outcome)
                logger.error("%s: left as it is, other jobs go on", state.job.key, exc_info=outcome)

    async def _advance(self, state: states.JobState, moment: moments.Moment) -> None:
        if state.spec is None or state.job.deleting:
            return
        transition = lifecycle.advance(
            state.job,
            state.spec,
            state.pods,
            lost_nodes=moment.nodes.lost,
            accelerators_per_pod=state.accelerators_per_pod,
            max_infrastructure_restarts=moment.settings.recovery.max_infrastructure_restarts,
            heard=steps.Heard(
                reading=moment.readings.progress.get(state.job.uid),
                error=moment.readings.progress_errors.get(state.job.uid, ""),
            ),
            now_seconds=moment.now,
            node_fault=moment.nodes.fault(state, moment.settings),
            queue_limit=state.run_limit,
        )
        if transition is None:
            return
        facts = moments.facts(state, moment)
        new = status.derive(state.job, transition.status, state.pods, facts)
        if not await self._writer.write_status(state, new):
            return
        states.interpret(
            state,
            priorities=self._store.priorities(),
            default_priority=self._store.default_priority(),
            settings=moment.settings,
            queues=moment.queues,
        )
        if transition.failure and not api.phase_of(transition.status).is_terminal:
            self._metrics.count_gang_restart(transition.failure.cause.value)
        await self._writer.tell(state.job, *transition.event, warning=transition.is_warning)

    async def _plan(
        self, jobs: Sequence[states.JobState], moment: moments.Moment, scene: gathering.Scene
    ) -> tuple[types.Plan, Mapping[str, int]]:
        """The plan, and of those who wait their places in the lines of their queues, by UID."""
        settings = moment.settings
        versions = {state.job.uid: state.job.resource_version for state in jobs}
        self._in_doubt = {uid: doubt for uid, doubt in self._in_doubt.items() if versions.get(uid) == doubt[0]}
        again = {uid: placement for uid, (_, placement) in self._in_doubt.items()}
        current = gathering.gather(jobs, scene, in_doubt=again, settings=settings, queues=moment.queues.planned)
        if current is None:
            nothing = types.Certificate(
                status=types.SolveStatus.NOTHING_TO_DO, strategy=settings.planner.strategy.value
            )
            return types.Plan(placements=again, waiting={}, certificate=nothing), {}
        current = expectations.complete(
            current,
            (state.job for state in jobs),
            expected=moment.expected,
            advice=moment.readings.advice,
            with_ends=settings.planner.order is types.QueueOrder.SHORTEST,
        )
        timeless = expectations.timeless(current)
        if self._last_plan is None or self._last_snapshot != timeless:
            self._last_plan = await self._solver.plan(current, settings.for_allocator())
            self._last_snapshot = timeless
            self._metrics.record_plan(self._last_plan.certificate)
        plan = dataclasses.replace(self._last_plan, placements={**self._last_plan.placements, **again})
        return plan, lines.positions(current, plan=plan, order=settings.planner.order)

    def _scene(self, moment: moments.Moment) -> gathering.Scene:
        priorities, default_priority = self._store.priorities(), self._store.default_priority()
        return gathering.Scene(
            nodes=moment.nodes.by_name,
            assessments=moment.nodes.assessments,
            lost_nodes=moment.nodes.lost,
            pods=self._store.pods,
            now_seconds=moment.now,
            expected=moment.expected,
            avoid=lambda state: moment.nodes.avoided(state),
            imposed=self._store.imposed(),
            comes_back=lambda state: states.comes_back(
                state,
                priorities=priorities,
                default_priority=default_priority,
                settings=moment.settings,
                queues=moment.queues,
            ),
        )

    def _seen(
        self, jobs: Sequence[states.JobState], plan: types.Plan, moment: moments.Moment, scene: gathering.Scene
    ) -> answers.Seen:
        """The cycle at its end, for whoever asks: references, and a list of pods that stays as it is."""
        return answers.Seen(
            jobs=tuple(jobs),
            scene=dataclasses.replace(scene, pods=tuple(self._store.pods)),
            plan=plan,
            settings=moment.settings,
            priorities=self._store.priorities(),
            default_priority=self._store.default_priority(),
            telemetry=moment.readings.telemetry,
            stale=moment.stale,
            expected=moment.expected,
            advice=moment.readings.advice,
            queues=moment.queues,
            runs=self._history.runs,
        )

    async def _stop(
        self,
        state: states.JobState,
        order: displacing.Order,
        requests: Mapping[str, types.Job],
        moment: moments.Moment,
    ) -> None:
        transition = displacing.stopped(
            state,
            order,
            requests=requests,
            horizon_seconds=moment.settings.elastic.horizon_seconds,
            now_seconds=moment.now,
        )
        if transition is None:
            return
        new = status.derive(state.job, transition.status, state.pods, moments.facts(state, moment))
        if await self._writer.write_status(state, new):
            self._metrics.count_stop(new["history"][-1]["outcome"])
            await self._writer.tell(state.job, *transition.event, warning=transition.is_warning)

    async def _place(self, state: states.JobState, plan: types.Plan, moment: moments.Moment) -> None:
        placement = plan.placements[state.job.uid]
        core = placing.core(
            state.job.status,
            placement,
            domains=snapshot.domains_of(placement, moment.nodes.by_name, settings=moment.settings),
            certificate=plan.certificate,
            now_seconds=moment.now,
        )
        facts = moments.facts(state, moment)
        before = state.job.resource_version
        if await self._writer.write_status(state, status.derive(state.job, core, state.pods, facts)):
            text = placing.event_text(placement, attempt=core["attempt"])
            await self._writer.tell(state.job, "Placed", text)
        elif state.in_doubt:
            self._in_doubt[state.job.uid] = (before, placement)

    async def _report(
        self,
        state: states.JobState,
        plan: types.Plan,
        positions: Mapping[str, int],
        moment: moments.Moment,
        scene: gathering.Scene,
    ) -> None:
        job = state.job
        if state.skip or job.deleting:
            return
        waiting = plan.waiting.get(job.uid) if gathering.may_start(state, scene) else None
        unplaced = job.status.get("placement") is None
        facts = dataclasses.replace(
            moments.facts(state, moment),
            waiting=waiting if unplaced else None,
            position=positions.get(job.uid),
            certificate=plan.certificate if waiting else None,
            misconfigured=state.misconfigured if unplaced else "",
        )
        old_reason = (job.status.get("decision") or {}).get("reason")
        new = status.derive(job, moment.nodes.explain(state, moment.settings), state.pods, facts)
        decision = new.get("decision") or {}
        if (
            await self._writer.write_status(state, new)
            and unplaced
            and decision.get("reason") not in (None, old_reason)
        ):
            await self._writer.tell(job, decision["reason"], decision["message"], warning=bool(state.misconfigured))

    async def _warn(self, state: states.JobState, moment: moments.Moment) -> None:
        """Tell a job, once, that it stands on nodes that are not excluded because too many look sick."""
        shares = (state.job.status.get("placement") or {}).get("nodes", ())
        sick = sorted({share["name"] for share in shares} & moment.nodes.spared)
        if not sick or state.is_over:
            self._warned.discard(state.job.uid)
        elif state.job.uid not in self._warned:
            self._warned.add(state.job.uid)
            text = (
                f"Node {', '.join(sick[:4])} looks sick, and is used all the same: too many nodes do at once "
                f"(setting health.breakerFraction: {moment.settings.health.breaker_fraction:g})."
            )
            await self._writer.tell(state.job, "NodesNotExcluded", text, warning=True)

    async def _expire(self, state: states.JobState, now: float) -> None:
        """Delete a finished job whose time to live is over."""
        expiry = lifecycle.expires_at(state.job, state.spec)
        if expiry and expiry <= now and not state.skip and not state.job.deleting:
            await self._writer.delete_job(state.job)

    def _record(self, jobs: Sequence[states.JobState], moment: moments.Moment) -> None:
        phases: dict[str, int] = {}
        waiting: dict[str, int] = {}
        for state in jobs:
            phase = api.phase_of(state.job.status)
            phases[phase.value] = phases.get(phase.value, 0) + 1
            if phase in (api.Phase.PENDING, api.Phase.RESTARTING):
                reason = str(state.job.status.get("reason", "Planning"))
                waiting[reason] = waiting.get(reason, 0) + 1
        self._metrics.set_jobs(phases, waiting)
        self._metrics.set_gpus(
            states.gpu_counts(
                moment.nodes.by_name.values(), moment.nodes.assessments, self._store.pods, settings=moment.settings
            )
        )

    def _seconds_to_next(self, jobs: Sequence[states.JobState], moment: moments.Moment) -> float:
        """Until the next deadline that no watch event announces, at most the resync interval."""
        settings, now = moment.settings, moment.now
        times = [now + settings.planner.resync_seconds]
        for state in jobs:
            if state.skip or state.problem:
                retry_at = self._children.retry_at(state.job.uid)
                times.append(now + _RETRY_SECONDS if retry_at is None or state.skip else retry_at)
        for state in jobs:
            if state.spec is not None and not state.skip:
                times.extend(lifecycle.deadlines(state.job, state.spec, state.pods, queue_limit=state.run_limit))
                times.extend(moment.nodes.deadlines(state))
                if state.job.status.get("placement") is not None:
                    times.append(preemption.protected_until(state.job, state.spec, settings=settings.preemption))
                else:
                    times.append(defragmentation.asks_from(state.job, settings=settings.defragmentation))
        if self._queues.due_at is not None:
            times.append(max(self._queues.due_at, now + _RETRY_SECONDS))
        limit = settings.health.node_lost_after_seconds
        times.extend(node.ready_since + limit for node in moment.nodes.by_name.values() if not node.ready)
        return max(0.0, min(at for at in times if at > now) - now)
