"""Everything that happened to pods and TrainingJobs, as the API server's watches tell it, in order.

It reads from the API server itself and not through the proxy, so no fault hides anything from it.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import threading
import time
import urllib.request
from typing import Any

from apiserver import ADMIN, ApiServer

Json = dict[str, Any]
PATHS = {"pods": "/api/v1/pods", "trainingjobs": "/apis/stowplan.dev/v1alpha1/trainingjobs"}


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
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        for resource, path in PATHS.items():
            listed = json.loads(self._open(path).read())
            thread = threading.Thread(
                target=self._watch, args=(resource, path, listed["metadata"]["resourceVersion"]), daemon=True
            )
            thread.start()

    def events(self, namespace: str) -> list[Event]:
        """What happened in a namespace so far, in the API server's order."""
        with self._lock:
            found = [event for event in self._events if event.object["metadata"]["namespace"] == namespace]
        return sorted(found, key=lambda event: event.version)

    def close(self) -> None:
        """Tell nothing more; the threads end with the API server, whose end closes their connections."""
        self._closed.set()

    def _open(self, path: str) -> Any:
        request = urllib.request.Request(
            self._server.url + path, headers={"Authorization": f"Bearer {self._server.tokens[ADMIN]}"}
        )
        trust = ssl.create_default_context(cafile=self._server.ca_file)
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return urllib.request.urlopen(request, context=trust)

    def _watch(self, resource: str, path: str, version: str) -> None:
        while not self._closed.is_set():
            try:
                with self._open(f"{path}?watch=true&resourceVersion={version}&timeoutSeconds=3600") as response:
                    for line in response:
                        told = json.loads(line)
                        if told["type"] == "ERROR":
                            raise RuntimeError(f"the watch of {resource} was refused: {told['object']}")
                        version = told["object"]["metadata"]["resourceVersion"]
                        if told["type"] != "BOOKMARK":
                            with self._lock:
                                self._events.append(Event(time.monotonic(), resource, told["type"], told["object"]))
            except (OSError, ValueError, AttributeError):
                if self._closed.is_set():
                    return
