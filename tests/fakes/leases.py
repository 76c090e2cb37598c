"""Leases in memory, as the API server keeps them."""

from __future__ import annotations

import copy
from typing import Any

from stowplan_operator import kube

Json = dict[str, Any]


class FakeLeases:
    """``kube.LeaseApi``; ``is_down`` makes every request fail, ``before_write`` runs ahead of one."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.is_down = False
        self.num_writes = 0
        self.num_reads = 0
        self.before_write = lambda: None
        self._version = 0

    @property
    def holder(self) -> str:
        return str((self.lease or {"spec": {}})["spec"].get("holderIdentity", ""))

    async def read_lease(self, namespace: str, name: str) -> Json | None:
        self.num_reads += 1
        self._check()
        return copy.deepcopy(self.lease)

    async def create_lease(self, namespace: str, body: Json) -> None:
        self._check()
        self.before_write()
        if self.lease is not None:
            raise kube.ApiError(409, "AlreadyExists", "the Lease exists already")
        self._store(body)

    async def replace_lease(self, namespace: str, name: str, body: Json) -> None:
        self._check()
        self.before_write()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise kube.ApiError(409, "Conflict", "the Lease has been modified")
        self._store(body)

    def steal(self, identity: str) -> None:
        """Somebody else writes the Lease now."""
        lease = copy.deepcopy(self.lease) or {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 15}}
        lease["spec"]["holderIdentity"] = identity
        self._store(lease)

    def _check(self) -> None:
        if self.is_down:
            raise kube.ApiError(0, "ClientConnectorError", "connection refused")

    def _store(self, body: Json) -> None:
        self._version += 1
        self.num_writes += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
