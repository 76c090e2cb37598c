"""What the operator knows of the cluster: kopf's indexes, overlaid with the answers to its own writes.

A watch lags behind a write. Until it has caught up, the object that the API server returned for the write
stands in for the indexed one; resourceVersions of one resource compare as numbers (KEP-5504). Without that a
second cycle could give the same accelerators twice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from stowplan_operator import imposed as limits
from stowplan_operator import queueing, views

_LONGEST_LAG_SECONDS = 120


class _Versioned(Protocol):
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


def is_older(left: str, right: str) -> bool:
    """Whether resourceVersion ``left`` is before ``right``; versions that are no numbers count as newer."""
    return left.isdigit() and right.isdigit() and int(left) < int(right)


class Table[View: _Versioned]:
    """Objects of one resource by UID: an index that kopf keeps, and our own newer answers over it."""

    def __init__(self, index: Mapping[str, Iterable[View]]) -> None:
        self._index = index
        self._overlay: dict[str, View] = {}
        self._put_at: dict[str, float] = {}
        self._left_out: dict[str, str] = {}

    def put(self, view: View) -> None:
        """Remember the API server's answer to a write until the watch shows it, at most for two minutes.

        The limit frees an object that was created and deleted before the answer to its creation arrived.
        """
        self._overlay[view.uid] = view
        self._put_at[view.uid] = time.monotonic()

    def shows(self, view: View) -> bool:
        """Whether the index holds the same already, but for the resourceVersion."""
        return any(
            # All views are dataclasses, which no protocol can say.
            dataclasses.replace(view, resource_version=old.resource_version) == old  # type: ignore[type-var]
            for old in self._index.get(view.uid, ())
        )

    def leave_out(self, uid: str, resource_version: str) -> None:
        """Note an object that was seen and could not be read: nobody must wait for it to appear."""
        self._left_out[uid] = resource_version

    def _forget_old_answers(self) -> None:
        now = time.monotonic()
        for uid in [uid for uid, at in self._put_at.items() if now - at > _LONGEST_LAG_SECONDS]:
            self._overlay.pop(uid, None)
            del self._put_at[uid]

    def observed(self, uid: str, resource_version: str, *, deleted: bool) -> None:
        """Forget an answer that the watch has caught up with."""
        mine = self._overlay.get(uid)
        if mine is not None and (deleted or not is_older(resource_version, mine.resource_version)):
            del self._overlay[uid]
            self._put_at.pop(uid, None)

    def __iter__(self) -> Iterator[View]:
        self._forget_old_answers()
        seen = set()
        for uid in list(self._index):
            for view in self._index[uid]:
                seen.add(uid)
                mine = self._overlay.get(uid)
                yield mine if mine is not None and is_older(view.resource_version, mine.resource_version) else view
        for uid, mine in list(self._overlay.items()):
            if uid not in seen:
                yield mine

    def indexed_versions(self) -> dict[str, str]:
        """UID → resourceVersion as the watch has shown them, for the comparison with a LIST."""
        indexed = {uid: view.resource_version for uid in list(self._index) for view in self._index[uid]}
        return {**self._left_out, **indexed}


class Store:
    """All tables that a planner cycle reads."""

    def __init__(
        self,
        *,
        nodes: Mapping[str, Iterable[views.NodeView]],
        pods: Mapping[str, Iterable[views.PodView]],
        jobs: Mapping[str, Iterable[views.JobView]],
        priorities: Mapping[str, Iterable[views.PriorityClass]],
        queues: Mapping[str, Iterable[queueing.QueueView]],
        imposed: Mapping[str, Mapping[str, Iterable[limits.View]]],
    ) -> None:
        """``imposed`` are indexes by plural."""
        self.nodes: Table[views.NodeView] = Table(nodes)
        self.pods: Table[views.PodView] = Table(pods)
        self.jobs: Table[views.JobView] = Table(jobs)
        self.queues: Table[queueing.QueueView] = Table(queues)
        self.limits = {plural: Table(index) for plural, index in imposed.items()}
        self._priorities = priorities
        self._finished: dict[str, views.PodView] = {}

    def pod_deleted(self, pod: views.PodView) -> None:
        """Keep the last sight of a pod that had exited 0: a gang must not start again for it.

        What its job's status says of it by then makes it superfluous (``forget_finished``). It only helps: an operator
        that was not there when the pod went starts the gang again.
        """
        if pod.managed and pod.phase == "Succeeded":
            self._finished[pod.uid] = pod

    @property
    def finished(self) -> Iterable[views.PodView]:
        """Deleted pods that had exited 0 and that no status has noted yet."""
        return tuple(self._finished.values())

    def forget_finished(self, uids: Iterable[str]) -> None:
        """Drop deleted pods that are noted, or of no use any more."""
        for uid in uids:
            self._finished.pop(uid, None)

    def imposed(self) -> limits.Imposed:
        """What Kubernetes limits."""
        return limits.Imposed.of(one for table in self.limits.values() for one in table)

    def priorities(self) -> dict[str, views.PriorityClass]:
        """PriorityClasses by name."""
        return {name: one for name in list(self._priorities) for one in self._priorities[name]}

    def default_priority(self) -> views.PriorityClass:
        """The PriorityClass with globalDefault; without one the value is 0."""
        defaults = [one for one in self.priorities().values() if one.is_default]
        return max(defaults, key=lambda one: one.value, default=views.PriorityClass())
