"""Everything that happened to pods and TrainingJobs, as the API server's watches tell it, in order.

It reads from the API server itself and not through the proxy, so no fault hides anything from it. It also knows how
every object stands now, so that nobody has to ask.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from apiserver import ADMIN, ApiServer
from world.client import JOBS, trust

Json = dict[str, Any]
PATHS = {
    "pods": "/api/v1/pods",
    "trainingjobs": f"{JOBS}/trainingjobs",
    "nodes": "/api/v1/nodes",
    "queues": f"{JOBS}/queues",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One change: ADDED, MODIFIED or DELETED, and the object as it was then."""

    at: float
    resource: str
    type: str
    object: Json

    @property
    def version(self) -> int:
        """The resourceVersion; one counter for all resources, so it orders them."""
        return int(self.object["metadata"]["resourceVersion"])


class History:
    """Watches from the moment it is made until it is closed."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._trust = trust(server)
        self._events: dict[str, list[Event]] = collections.defaultdict(list)
        self._now: dict[tuple[str, str], dict[str, Json]] = collections.defaultdict(dict)
        self._changed = threading.Condition()
        self._last_at = time.monotonic()
        self._closed = threading.Event()
        for resource, path in PATHS.items():
            with self._open(path) as answer:
                listed = json.loads(answer.read())
            for one in listed["items"]:
                self._now[resource, one["metadata"].get("namespace", "")][one["metadata"]["name"]] = one
            threading.Thread(
                target=self._watch, args=(resource, path, listed["metadata"]["resourceVersion"]), daemon=True
            ).start()

    def events(self, namespace: str) -> list[Event]:
        """What happened in a namespace, and to nodes, since its first object, in the API server's order."""
        with self._changed:
            found = list(self._events[namespace])
            nodes = list(self._events[""])
        first = min((event.version for event in found), default=0)
        return sorted([*found, *(one for one in nodes if one.version > first)], key=lambda event: event.version)

    def forget(self, namespace: str) -> None:
        """Nobody will ask for this namespace again, nor for what has happened to nodes."""
        with self._changed:
            self._events.pop(namespace, None)
            self._events.pop("", None)

    def now(self, resource: str, namespace: str = "") -> dict[str, Json]:
        """The objects of a resource by name."""
        with self._changed:
            return dict(self._now[resource, namespace])

    def wait_for(self, condition: Callable[[], object], *, seconds: float, what: str) -> None:
        """Look at every change, and now and then without one; a TimeoutError says what was awaited."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            with self._changed:
                self._changed.wait(0.2)

    def wait_for_rest(self, seconds: float) -> None:
        """Until nothing has changed for so long."""
        while (left := self._last_at + seconds - time.monotonic()) > 0:
            time.sleep(left)

    def close(self) -> None:
        """Tell nothing more; the threads end with the API server, whose end closes their connections."""
        self._closed.set()

    def _open(self, path: str) -> Any:
        request = urllib.request.Request(
            self._server.url + path, headers={"Authorization": f"Bearer {self._server.tokens[ADMIN]}"}
        )
        return urllib.request.urlopen(request, context=self._trust)

    def _watch(self, resource: str, path: str, version: str) -> None:
        while not self._closed.is_set():
            since = f"{path}?watch=true&resourceVersion={version}&timeoutSeconds=7200"
            with contextlib.suppress(OSError, ValueError, AttributeError), self._open(since) as response:
                for line in response:
                    told = json.loads(line)
                    if told["type"] == "ERROR":
                        raise RuntimeError(f"the watch of {resource} was refused: {told['object']}")
                    version = told["object"]["metadata"]["resourceVersion"]
                    self._note(Event(time.monotonic(), resource, told["type"], told["object"]))

    def _note(self, event: Event) -> None:
        meta = event.object["metadata"]
        meta.pop("managedFields", None)
        namespace = meta.get("namespace", "")
        with self._changed:
            self._last_at = event.at
            self._events[namespace].append(event)
            if event.type == "DELETED":
                self._now[event.resource, namespace].pop(meta["name"], None)
            else:
                self._now[event.resource, namespace][meta["name"]] = event.object
            self._changed.notify_all()
