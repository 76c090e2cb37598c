"""The one module that talks to the API server.

Connection settings and credentials come from ``kubernetes.aio`` (kubeconfig or service account);
requests are plain JSON on its own aiohttp session, which costs a third of the client's CPU per pod.
Every write that gives or takes accelerators carries a precondition (resourceVersion or UID), so
that an operator that was frozen and thawed cannot act on what it remembers. At most 16 requests are
in flight, beside those for the Lease, which wait for no other: thousands of pods may be in the queue.
``KubeApi`` is what the rest of the operator may use, and what tests replace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import aiohttp
import yaml
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as aio_config

from stowplan_operator import api

Json = dict[str, Any]

_IN_FLIGHT = 16
_IN_FLIGHT_FOR_LEASE = 2
_MAX_METRICS_BYTES = 1024 * 1024
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_OURS = f"/apis/{api.GROUP}/{api.VERSION}"
_SERVICE_ACCOUNT_TOKEN = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_COLLECTIONS = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    api.PLURAL: f"{_OURS}/{api.PLURAL}",
    api.QUEUES: f"{_OURS}/{api.QUEUES}",
    "priorityclasses": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "resourcequotas": "/api/v1/resourcequotas",
    "limitranges": "/api/v1/limitranges",
    "poddisruptionbudgets": "/apis/policy/v1/poddisruptionbudgets",
}


class ApiError(Exception):
    """The API server refused or could not be reached; ``status`` is the HTTP status, 0 without an answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_conflict(self) -> bool:
        """A precondition failed or the object exists already."""
        return self.status == 409

    @property
    def is_in_doubt(self) -> bool:
        """Whether a write may have been made all the same."""
        return self.status == 0 or self.status >= 500

    @property
    def is_not_found(self) -> bool:
        """The object, or its namespace, is gone."""
        return self.status == 404


class KubeApi(Protocol):
    """What the operator asks of the API server."""

    async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
        """UID → resourceVersion of every object of one of the kinds that are watched, such as ``nodes``."""

    async def patch_status(
        self, kind: str, namespace: str, name: str, *, patch: Json, uid: str, resource_version: str
    ) -> Json:
        """Merge ``patch`` into the status of an object of ours, if it is still this one as read; the new object.

        ``kind`` is the plural; the namespace is empty for kinds that are cluster-scoped.
        """

    async def delete_job(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """Delete the job if it is still this one; its children follow through owner references."""

    async def create(self, kind: str, namespace: str, body: Json) -> Json:
        """Create a ``pods``, ``services``, ``networkpolicies`` or ``events`` object."""

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> None:
        """Delete the pod if it is still this one; gone already is fine."""

    async def read_child(self, kind: str, namespace: str, name: str) -> Json | None:
        """A Service or NetworkPolicy, or None."""

    async def read_config_map(self, namespace: str, name: str) -> Json | None:
        """A ConfigMap, or None."""

    async def write_config_map(self, namespace: str, body: Json) -> Json:
        """Replace it if its resourceVersion is still the one in ``body``; create it where ``body`` has none."""

    async def read_pod_metrics(self, namespace: str, name: str, *, port: int, timeout_seconds: float) -> str:
        """The text that the pod serves at ``/metrics``, through the API server's pod proxy; at most 1 MiB of it."""


class LeaseApi(Protocol):
    """What leader election asks of the API server."""

    async def read_lease(self, namespace: str, name: str) -> Json | None:
        """The Lease, or None."""

    async def create_lease(self, namespace: str, body: Json) -> None:
        """Create it; 409 where somebody was faster."""

    async def replace_lease(self, namespace: str, name: str, body: Json) -> None:
        """Replace it if its resourceVersion is still the one in ``body``."""


_LEASE_GROUP = "/apis/coordination.k8s.io/"
_LEASES = _LEASE_GROUP + "v1/namespaces/{namespace}/leases"
_CONFIG_MAPS = "/api/v1/namespaces/{namespace}/configmaps"
_CREATE = {
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "services": "/api/v1/namespaces/{namespace}/services",
    "events": "/api/v1/namespaces/{namespace}/events",
    "networkpolicies": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}


class Kube:
    """``KubeApi`` over HTTP."""

    def __init__(self, configuration: Any, *, namespace: str = "default") -> None:
        self._configuration = configuration
        self.namespace = namespace
        self._api_client = aio_client.ApiClient(configuration)
        rest = self._api_client.rest_client
        connector = aiohttp.TCPConnector(limit=_IN_FLIGHT + _IN_FLIGHT_FOR_LEASE, ssl=rest.ssl_context)
        # The API server hands pods' answers through: no cookie of theirs is kept, and no redirect followed.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=30), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._lease_slots = asyncio.Semaphore(_IN_FLIGHT_FOR_LEASE)
        # Raises where this process may no longer write. Asked when a write leaves the queue, which may be long after
        # it was decided; Leases are what the answer depends on, and are not asked for.
        self.guard: Callable[[], None] = lambda: None

    @classmethod
    async def connect(cls, *, kubeconfig: str | None = None, context: str | None = None) -> Kube:
        """Connect with the pod's service account, or else with the kubeconfig (``KUBECONFIG``).

        Naming a kubeconfig or a context asks for that one, in a pod as well. ValueError says what is wrong with it.
        """
        configuration = aio_client.Configuration()
        if in_cluster() and not kubeconfig and not context:
            aio_config.load_incluster_config(client_configuration=configuration)
            return cls(configuration, namespace=own_namespace())
        try:
            loader = await aio_config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration
            )
            chosen = loader.current_context["context"]
        except (aio_config.ConfigException, yaml.YAMLError, LookupError, AttributeError, TypeError, OSError) as error:
            raise ValueError(f"kubeconfig: {error}") from None
        return cls(configuration, namespace=chosen.get("namespace") or "default")

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    @property
    def configuration(self) -> Any:
        """The library's configuration: address and credentials."""
        return self._configuration

    async def close(self) -> None:
        """Close both sessions."""
        await self._session.close()
        await self._api_client.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_seconds: float = 30,
        max_bytes: int | None = None,
    ) -> bytes:
        """One request; the response's body. ApiError on every status that is not 2xx, and without an answer."""
        headers = {"Content-Type": content_type, "Accept": accept, **await self._headers()}
        is_for_lease = path.startswith(_LEASE_GROUP)
        async with self._lease_slots if is_for_lease else self._slots:
            if method != "GET" and not is_for_lease:
                self.guard()
            try:
                async with self._session.request(
                    method,
                    self._configuration.host + path,
                    data=None if body is None else json.dumps(body, separators=(",", ":")),
                    params=params,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                    allow_redirects=False,
                ) as response:
                    text = await _read(response, max_bytes)
                    if response.status >= 300:
                        raise _error(response.status, response.reason or "", text)
                    return text
            except TimeoutError:
                raise ApiError(0, "Timeout", f"{method} {path} took over {timeout_seconds} s") from None
            except aiohttp.ClientError as error:
                raise ApiError(0, type(error).__name__, str(error)) from error

    async def _headers(self) -> dict[str, str]:
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"User-Agent": "stowplan-operator", **({"Authorization": token} if token else {})}

    async def stream(self, path: str, *, params: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """A GET whose answer has no known end, piece by piece as it arrives; ApiError as in ``request``."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        headers = await self._headers()
        try:
            async with self._session.get(
                self._configuration.host + path, params=params, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    raise _error(response.status, response.reason or "", await response.read())
                async for piece in response.content.iter_any():
                    yield piece
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ApiError(0, type(error).__name__, str(error)) from error

    @contextlib.asynccontextmanager
    async def websocket(
        self, path: str, *, params: Mapping[str, str], protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket to the API server; ApiError as in ``request``."""
        try:
            async with self._session.ws_connect(
                self._configuration.host + path,
                params=params,
                headers=await self._headers(),
                protocols=(protocol,),
                max_msg_size=0,
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(error.status, "Handshake", "the API server refused a WebSocket") from None
        except aiohttp.ClientError as error:
            raise ApiError(0, type(error).__name__, str(error)) from error

    async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
        """See ``KubeApi``. Only metadata is asked for."""
        path = _COLLECTIONS[resource]
        if namespace:
            root, plural = path.rsplit("/", 1)
            path = f"{root}/namespaces/{namespace}/{plural}"
        keys: dict[str, str] = {}
        token = ""
        while True:
            params = {"limit": "2000", **({"continue": token} if token else {})}
            page = json.loads(await self.request("GET", path, params=params, accept=_METADATA_ONLY))
            keys.update((one["metadata"]["uid"], one["metadata"]["resourceVersion"]) for one in page["items"] or ())
            token = page["metadata"].get("continue") or ""
            if not token:
                return keys

    async def patch_status(
        self, kind: str, namespace: str, name: str, *, patch: Json, uid: str, resource_version: str
    ) -> Json:
        """See ``KubeApi``."""
        body = {"metadata": {"uid": uid, "resourceVersion": resource_version}, "status": patch}
        where = f"{_OURS}/namespaces/{namespace}" if namespace else _OURS
        path = f"{where}/{kind}/{name}/status"
        text = await self.request("PATCH", path, body=body, content_type="application/merge-patch+json")
        answer: Json = json.loads(text)
        return answer

    async def delete_job(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """See ``KubeApi``."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        await self._delete(f"{_OURS}/namespaces/{namespace}/{api.PLURAL}/{name}", body)

    async def create(self, kind: str, namespace: str, body: Json) -> Json:
        """See ``KubeApi``."""
        answer: Json = json.loads(await self.request("POST", _CREATE[kind].format(namespace=namespace), body=body))
        return answer

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> None:
        """See ``KubeApi``."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_seconds,
            "preconditions": {"uid": uid},
        }
        await self._delete(f"/api/v1/namespaces/{namespace}/pods/{name}", body)

    async def read_child(self, kind: str, namespace: str, name: str) -> Json | None:
        """See ``KubeApi``."""
        return await self._read(f"{_CREATE[kind].format(namespace=namespace)}/{name}")

    async def _read(self, path: str) -> Json | None:
        try:
            answer: Json = json.loads(await self.request("GET", path))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return answer

    async def _delete(self, path: str, body: Json) -> None:
        try:
            await self.request("DELETE", path, body=body)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def read_config_map(self, namespace: str, name: str) -> Json | None:
        """See ``KubeApi``."""
        return await self._read(f"{_CONFIG_MAPS.format(namespace=namespace)}/{name}")

    async def write_config_map(self, namespace: str, body: Json) -> Json:
        """See ``KubeApi``."""
        meta, path = body["metadata"], _CONFIG_MAPS.format(namespace=namespace)
        is_there = "resourceVersion" in meta
        text = await self.request(
            "PUT" if is_there else "POST", f"{path}/{meta['name']}" if is_there else path, body=body
        )
        answer: Json = json.loads(text)
        return answer

    async def read_lease(self, namespace: str, name: str) -> Json | None:
        """See ``LeaseApi``."""
        return await self._read(f"{_LEASES.format(namespace=namespace)}/{name}")

    async def create_lease(self, namespace: str, body: Json) -> None:
        """See ``LeaseApi``."""
        await self.request("POST", _LEASES.format(namespace=namespace), body=body)

    async def replace_lease(self, namespace: str, name: str, body: Json) -> None:
        """See ``LeaseApi``."""
        await self.request("PUT", f"{_LEASES.format(namespace=namespace)}/{name}", body=body)

    async def read_pod_metrics(self, namespace: str, name: str, *, port: int, timeout_seconds: float) -> str:
        """See ``KubeApi``."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"
        text = await self.request("GET", path, timeout_seconds=timeout_seconds, max_bytes=_MAX_METRICS_BYTES)
        return text.decode(errors="replace")


async def _read(response: aiohttp.ClientResponse, max_bytes: int | None) -> bytes:
    """The body, or as much of it as ``max_bytes`` allows."""
    if max_bytes is None:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) >= max_bytes:
            break
    return bytes(body[:max_bytes])


def in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and _SERVICE_ACCOUNT_TOKEN.exists()


def own_namespace() -> str:
    """The namespace of this pod, else ``STOWPLAN_NAMESPACE``, else ``default``."""
    path = _SERVICE_ACCOUNT_TOKEN.with_name("namespace")
    if in_cluster() and path.exists():
        return path.read_text().strip()
    return os.environ.get("STOWPLAN_NAMESPACE", "default")


def _error(status: int, reason: str, text: bytes) -> ApiError:
    try:
        answer = json.loads(text)
        return ApiError(status, answer.get("reason") or reason, answer.get("message") or "")
    except (ValueError, AttributeError):
        return ApiError(status, reason, text[:300].decode(errors="replace"))
