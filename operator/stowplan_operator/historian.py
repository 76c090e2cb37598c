"""Keeps the node history in one ConfigMap in the operator's namespace.

Read once, by the process that leads; written when it has changed, on condition that nobody else has written it since.
``current`` is what is written for certain: deeds follow from it alone (see ``node_history``). One that is missing, or
that makes no sense, begins anew. An API server that refuses it stops nothing else: nodes are still judged by what
Prometheus shows, only gangs that run are not restarted for an XID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stowplan_operator import api, kube, node_history
from stowplan_operator.metrics import Metrics
from stowplan_operator.node_history import NodeHistory

logger = logging.getLogger(__name__)

NAME = "stowplan-node-history"
KEY = "history.json"
_PAUSE_AFTER_ERROR_SECONDS = 5.0


class Historian:
    """The durable node history of one planner. ``guard`` raises in a process that may no longer act."""

    def __init__(
        self, *, api_server: kube.KubeApi, namespace: str, metrics: Metrics, guard: Callable[[], None]
    ) -> None:
        self._kube = api_server
        self._namespace = namespace
        self._metrics = metrics
        self._guard = guard
        self._version = ""
        self._text = ""
        self._is_read = False
        self._wait_until = 0.0
        self._said = ""
        self.current = NodeHistory()

    async def read(self, *, now_seconds: float) -> bool:
        """Whether it has been read: now, or before. One that the API server does not give up is asked for again."""
        if self._is_read or now_seconds < self._wait_until:
            return self._is_read
        try:
            body = await self._kube.read_config_map(self._namespace, NAME)
        except kube.ApiError as error:
            self._complain("read", error, now_seconds=now_seconds)
            return False
        self._is_read = True
        self.current, self._version, self._text = NodeHistory(), "", ""
        if body is None:
            return True
        self._version = body["metadata"]["resourceVersion"]
        try:
            text = (body.get("data") or {}).get(KEY, "")
            self.current = node_history.load(text)
            self._text = text
        except ValueError as error:
            self._metrics.count_node_history_error()
            logger.warning("ConfigMap %s/%s begins anew: %s", self._namespace, NAME, error)
        return True

    async def record(self, new: NodeHistory, *, now_seconds: float) -> bool:
        """Write it where it differs, and say whether that was done; ``current`` is the new one only then."""
        if not self._is_read or new == self.current or now_seconds < self._wait_until:
            return False
        text = node_history.dump(new)
        if text == self._text:
            return False
        version = {"resourceVersion": self._version} if self._version else {}
        labels = {api.LABEL_MANAGED_BY: api.MANAGED_BY}
        meta = {"name": NAME, "namespace": self._namespace, "labels": labels, **version}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {KEY: text}}
        self._guard()
        try:
            answer = await self._kube.write_config_map(self._namespace, body)
        except kube.ApiError as error:
            # Somebody else's write, or our own without an answer: what stands there now is what counts.
            self._is_read = not (error.is_conflict or error.is_in_doubt or error.is_not_found)
            if error.is_conflict:
                logger.info("ConfigMap %s/%s was written by another; it is read again", self._namespace, NAME)
            else:
                self._complain("write", error, now_seconds=now_seconds)
            return False
        self._said = ""
        self._version, self._text = answer["metadata"]["resourceVersion"], text
        # What had no room is forgotten here, too: the next process must not know less than this one.
        self.current = node_history.load(text)
        self._metrics.count_api_write("update" if version else "create", "configmaps")
        self._metrics.set_node_history_bytes(len(text))
        return True

    def _complain(self, verb: str, error: kube.ApiError, *, now_seconds: float) -> None:
        self._wait_until = now_seconds + _PAUSE_AFTER_ERROR_SECONDS
        self._metrics.count_node_history_error()
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("cannot %s ConfigMap %s/%s: %s", verb, self._namespace, NAME, error)
