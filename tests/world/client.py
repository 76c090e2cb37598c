"""Plain requests to the API server, past every proxy: kubectl takes a tenth of a second for each."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import urllib.parse
from typing import Any

from apiserver import ADMIN, ApiServer

Json = dict[str, Any]
JOBS = "/apis/stowplan.dev/v1alpha1"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class RefusedError(AssertionError):
    """The API server refused what a flow takes for granted."""


def trust(server: ApiServer) -> ssl.SSLContext:
    """Its certificate authority is the certificate itself, which OpenSSL's strict mode does not take."""
    context = ssl.create_default_context(cafile=str(server.ca_file))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Client:
    """One kept connection for each thread."""

    def __init__(self, server: ApiServer) -> None:
        address = urllib.parse.urlsplit(server.url)
        self._host, self._port = str(address.hostname), address.port
        self._trust = trust(server)
        self._headers = {"Authorization": f"Bearer {server.tokens[ADMIN]}"}
        self._of_thread = threading.local()
        self._all: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close every connection."""
        for connection in self._all:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> tuple[int, Any]:
        """Status and parsed answer. What does no harm twice is sent again where a kept connection was closed."""
        text = None if body is None else json.dumps(body)
        for is_last in (method not in ("GET", "DELETE"), True):
            connection = self._connection()
            try:
                connection.request(method, path, text, {**self._headers, "Content-Type": kind})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read() or b"{}")
            except (OSError, http.client.HTTPException):
                self._forget()
                if is_last:
                    raise
        raise AssertionError("not reached")

    def must(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        """The answer; a refusal is an error of the test."""
        status, answer = self.ask(method, path, body, kind=kind)
        if status >= 300:
            raise RefusedError(f"{method} {path}: {status} {answer.get('message')}")
        return answer

    def _connection(self) -> http.client.HTTPSConnection:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=30, context=self._trust
            )
            self._all.append(self._of_thread.connection)
        connection: http.client.HTTPSConnection = self._of_thread.connection
        return connection

    def _forget(self) -> None:
        with contextlib.suppress(AttributeError):
            self._of_thread.connection.close()
            del self._of_thread.connection


def jobs_path(namespace: str, name: str = "") -> str:
    """Where TrainingJobs of a namespace are."""
    return f"{JOBS}/namespaces/{namespace}/trainingjobs" + (f"/{name}" if name else "")


def pods_path(namespace: str, name: str = "") -> str:
    """Where pods of a namespace are."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def queues_path(name: str = "") -> str:
    """Where Queues are."""
    return f"{JOBS}/queues" + (f"/{name}" if name else "")
