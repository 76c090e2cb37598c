"""The nodes of one cycle: their history brought up to date, which of them are sick, lost or spared, and what follows.

History first, deeds after: ``look`` writes what is new before anything is done about it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stowplan_operator import (
    breaker,
    elastic,
    failures,
    health,
    historian,
    kube,
    lifecycle,
    node_faults,
    node_history,
    states,
    views,
    xids,
)
from stowplan_operator.metrics import Metrics
from stowplan_operator.node_history import NodeHistory
from stowplan_operator.settings import Settings
from stowplan_operator.store import Store

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """All nodes at one moment: by name, what is thought of each, which are lost, and those that the breaker spares."""

    by_name: Mapping[str, views.NodeView]
    assessments: Mapping[str, health.NodeHealth]
    lost: frozenset[str]
    spared: frozenset[str]
    scene: node_faults.Scene
    history: NodeHistory
    repeated: Mapping[str, frozenset[str]]

    def fault(self, state: states.JobState, settings: Settings) -> failures.Failure | None:
        """What is wrong with a node or GPU under the job's gang."""
        placement = state.job.status.get("placement")
        if placement is None:
            return None
        current = list(lifecycle.current_pods(state.job, state.pods).values())
        planned_at = views.parse_time(placement.get("plannedAt"))
        return node_faults.find(current, self.scene, planned_at=planned_at, settings=settings)

    def avoided(self, state: states.JobState) -> frozenset[str]:
        """Nodes where the job's application failed on a GPU more than once, unless it fits nowhere else."""
        if state.spec is None or state.request is None or not state.spec.failure_policy.avoid_failed_nodes:
            return frozenset()
        avoided = self.repeated.get(state.job.uid)
        if not avoided:
            return frozenset()
        per_pod = max(1, state.accelerators_per_pod)
        rest = sum(
            node.allocatable.accelerators // per_pod for name, node in self.by_name.items() if name not in avoided
        )
        return avoided if rest >= min(elastic.sizes(state.spec), default=state.spec.num_nodes) else frozenset()

    def explain(self, state: states.JobState, settings: Settings) -> Mapping[str, Any]:
        """The job's status, with the XID that its last attempt died of where one is known by now."""
        new = state.spec and node_faults.explain(state.job, state.spec, self.history.xids, settings)
        return new or state.job.status

    def deadlines(self, state: states.JobState) -> list[float]:
        """Times (Unix seconds) at which ``fault`` changes by itself."""
        return node_faults.deadlines(lifecycle.current_pods(state.job, state.pods).values(), self.scene)


class NodeWatch:
    """Looks at all nodes once a cycle, and keeps their history."""

    def __init__(
        self, *, api_server: kube.KubeApi, namespace: str, store: Store, metrics: Metrics, guard: Callable[[], None]
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._shortages = node_faults.Shortages()
        self._historian = historian.Historian(api_server=api_server, namespace=namespace, metrics=metrics, guard=guard)
        self._said: frozenset[str] = frozenset()

    async def look(
        self, jobs: Sequence[states.JobState], telemetry: views.Telemetry, settings: Settings, *, now_seconds: float
    ) -> Nodes:
        """What a cycle goes by."""
        nodes = sorted(self._store.nodes, key=lambda node: node.name)
        self._shortages.observe(nodes, self._store.pods, now_seconds=now_seconds)
        seen = await self._bring_up_to_date(jobs, nodes, telemetry, settings, now_seconds=now_seconds)
        judged = {
            node.name: health.assess(node, telemetry, settings, now_seconds, seen=seen.xids.get(node.name, ()))
            for node in nodes
        }
        spared = self._spare(nodes, judged, seen, settings, now_seconds=now_seconds)
        for node in nodes:
            if node.name in spared:
                judged[node.name] = health.assess(node, telemetry, settings, now_seconds, is_spared=True)
        by_name = {node.name: node for node in nodes}
        certain = self._historian.current
        shortages = {name: at for name, at in self._shortages.since.items() if name not in spared}
        found = {name: entries for name, entries in certain.xids.items() if name not in spared}
        suspects = {
            node.name: node
            for node in nodes
            if node.name in shortages or node.name in found or node_faults.is_suspect(node, settings)
        }
        return Nodes(
            by_name=by_name,
            assessments=judged,
            lost=states.lost_nodes(self._store, nodes, settings, now_seconds=now_seconds),
            spared=spared,
            scene=node_faults.Scene(
                nodes=suspects,
                shortages=shortages,
                seen=found,
                telemetry=telemetry,
                now_seconds=now_seconds,
            ),
            history=certain,
            repeated=node_history.repeated(certain, settings.health.xid_actions, now_seconds=now_seconds),
        )

    async def _bring_up_to_date(
        self,
        jobs: Sequence[states.JobState],
        nodes: Sequence[views.NodeView],
        telemetry: views.Telemetry,
        settings: Settings,
        *,
        now_seconds: float,
    ) -> NodeHistory:
        """The history with what is new; only what ``historian.current`` holds is certain to be remembered."""
        await self._historian.read(now_seconds=now_seconds)
        old = self._historian.current
        ours = {f"{pod.namespace}/{pod.name}" for pod in self._store.pods if pod.managed}
        new = node_history.observe(old, nodes, telemetry, our_pods=ours)
        new = node_history.absorb(
            new, [state.job for state in jobs], reasons=failures.NODES_FAULTS, now_seconds=now_seconds
        )
        if await self._historian.record(new, now_seconds=now_seconds):
            for node, entries in new.xids.items():
                for one in set(entries) - set(old.xids.get(node, ())):
                    if one.at:
                        action = xids.action_of(one.code, settings.health.xid_actions)
                        self._metrics.count_xid(one.code, action.value)
                        logger.warning("%s: %s", node_faults.describe(one, node), action.value)
        return new

    def _spare(
        self,
        nodes: Sequence[views.NodeView],
        judged: Mapping[str, health.NodeHealth],
        seen: NodeHistory,
        settings: Settings,
        *,
        now_seconds: float,
    ) -> frozenset[str]:
        sick = self._shortages.lasting(now_seconds=now_seconds)
        for name, one in judged.items():
            if one.is_judged:
                times = [
                    entry.at
                    for entry in seen.xids.get(name, ())
                    if xids.action_of(entry.code, settings.health.xid_actions).excludes
                ]
                sick[name] = min(times, default=0)
        num_nodes = sum(node.capacity.accelerators > 0 for node in nodes)
        spared = breaker.spare(sick, num_nodes=num_nodes, fraction=settings.health.breaker_fraction)
        self._metrics.set_sick_nodes(excluded=len(sick) - len(spared), spared=len(spared))
        if bool(spared) != bool(self._said):
            logger.warning(
                "%d of %d GPU nodes look sick: %s",
                len(sick),
                num_nodes,
                f"too many at once, {len(spared)} of them are used all the same" if spared else "all are excluded",
            )
        self._said = spared
        return spared
