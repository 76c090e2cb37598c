"""Leader election with a Lease (coordination.k8s.io/v1): a second operator never acts at the same time.

The client library's election (kubernetes 37) cannot create its Lease and takes a network error for the end, so this is
the same protocol as client-go's, on our own API module. A holder that was not renewed for its duration, measured on the
observer's own monotonic clock since it last saw a change, is replaced; every write carries the resourceVersion.
``guard`` refuses a write when the last renewal is older than the Lease lasts (as in a process that was frozen and
thawed), whatever the renewal loop has noticed so far.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from stowplan_operator import kube

logger = logging.getLogger(__name__)


class NotLeaderError(RuntimeError):
    """This process may no longer write: its Lease may have passed to another one."""


class Leader:
    """One candidate. ``run`` returns when the Lease is lost, and the process must end then."""

    def __init__(
        self,
        *,
        leases: kube.LeaseApi,
        name: str,
        namespace: str,
        duration_seconds: int,
        identity: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity or f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        self.is_leading = False
        # Who held the Lease when it was last read; empty where nobody did.
        self.holder = ""
        self._leases = leases
        self._name = name
        self._namespace = namespace
        self._duration_seconds = duration_seconds
        self._clock = clock
        self._renewed_at = float("-inf")
        self._seen: tuple[str, float] = ("", float("-inf"))

    def guard(self) -> None:
        """Raise NotLeaderError unless the Lease was renewed so lately that nobody else can hold it."""
        if not self.is_leading or self._clock() - self._renewed_at >= self._duration_seconds:
            raise NotLeaderError("the Lease was not renewed in time; another operator may hold it")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, run ``lead`` while it is held; return when it is lost, raise what ``lead`` raises."""
        retry = self._duration_seconds / 7.5
        while not await self.try_once():  # noqa: ASYNC110 - what is awaited is in the API server
            await asyncio.sleep(retry)
        self.is_leading = True
        leading = asyncio.ensure_future(lead())
        try:
            while self._clock() - self._renewed_at < self._duration_seconds * 2 / 3:
                await asyncio.wait([leading], timeout=retry)
                if leading.done():
                    return leading.result()
                await self.try_once()
            logger.error("the Lease %s/%s could not be renewed", self._namespace, self._name)
        finally:
            self.is_leading = False
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)

    async def try_once(self) -> bool:
        """One try to take or renew the Lease; False where another one holds it or the API server does not answer."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._duration_seconds / 3):
                lease = await self._leases.read_lease(self._namespace, self._name)
                if lease is None:
                    await self._leases.create_lease(self._namespace, self._body(None))
                elif self._may_take(lease):
                    await self._leases.replace_lease(self._namespace, self._name, self._body(lease))
                else:
                    return False
        except (kube.ApiError, TimeoutError) as error:
            if not (isinstance(error, kube.ApiError) and error.is_conflict):
                logger.warning("Lease %s/%s: %s", self._namespace, self._name, error)
            return False
        self._renewed_at = began
        return True

    def _may_take(self, lease: dict[str, Any]) -> bool:
        """Whether it is ours, free, or was not changed for its duration while we watched."""
        spec = lease.get("spec") or {}
        self.holder = holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        lasts = float(spec.get("leaseDurationSeconds") or self._duration_seconds)
        return self._clock() - self._seen[1] > lasts

    def _body(self, lease: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec") or {}
        ours = old.get("holderIdentity") == self.identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": (lease or {}).get("metadata") or {"name": self._name},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._duration_seconds,
                "acquireTime": old.get("acquireTime") or now if ours else now,
                "renewTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
            },
        }

    async def release(self) -> None:
        """Give the Lease back, if it is ours, so that the next operator need not wait for it to run out."""
        try:
            async with asyncio.timeout(3):
                lease = await self._leases.read_lease(self._namespace, self._name)
                if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
                    return
                lease["spec"]["holderIdentity"] = ""
                await self._leases.replace_lease(self._namespace, self._name, lease)
        except (kube.ApiError, TimeoutError) as error:
            logger.info("the Lease was not given back: %s", error)
