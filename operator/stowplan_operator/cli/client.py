"""What the CLI asks of the API server, on top of ``kube.Kube``, with every refusal in words.

A refusal is a ``CliError``: not reachable, not allowed, not installed (exit code 3), or no such job (2).
Only reads, one merge patch of ``spec.suspend``, and jobs that are only tried (dryRun).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stowplan_operator import api, forwarding, kube
from stowplan_operator.cli import refusals
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import Job, event_time, mapping, objects, pod_attempt, text

_JOBS = f"/apis/{api.API_VERSION}"
_PAGE = "500"
_TIMEOUT_SECONDS = 15
_SNAPSHOT_SECONDS = 60
ANSWERS_PORT = 8082
ANSWERS_ROLE = "stowplan-user-answers"
OPERATOR_SELECTOR = "app.kubernetes.io/name=stowplan,app.kubernetes.io/component=operator"


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster and namespace that the user named; None means: as the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def cluster_flags(self) -> tuple[str, ...]:
        """The flags that name the cluster again."""
        given = (("--kubeconfig", self.kubeconfig), ("--context", self.context))
        return tuple(word for flag, value in given if value for word in (flag, value))

    @property
    def config_path(self) -> str | None:
        """The kubeconfig to read, as kubectl chooses it; None where there is none."""
        if self.kubeconfig or os.environ.get("KUBECONFIG"):
            return self.kubeconfig or os.environ["KUBECONFIG"]
        path = pathlib.Path.home() / ".kube" / "config"
        return str(path) if path.exists() else None


class Cluster:
    """TrainingJobs, their pods, logs and events."""

    def __init__(self, connection: kube.Kube, *, target: Target) -> None:
        self._kube = connection
        self.target = target
        self.namespace = target.namespace or connection.namespace

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[Cluster]:
        """Connect; a kubeconfig that cannot be used is a CliError."""
        path = target.config_path
        if path is None and not kube.in_cluster():
            raise refusals.no_kubeconfig()
        if path and not _exists(path):
            raise refusals.missing_kubeconfig(path)
        try:
            connection = await kube.Kube.connect(kubeconfig=path, context=target.context)
        except ValueError as error:
            raise refusals.bad_kubeconfig(str(error), path=path or "", context=target.context) from None
        try:
            yield cls(connection, target=target)
        finally:
            await connection.close()

    async def list_jobs(self, namespace: str | None, *, selector: str = "") -> list[Job]:
        """All jobs of a namespace, or of all namespaces for None, in the API server's order."""
        root = f"{_JOBS}/{api.PLURAL}" if namespace is None else f"{_JOBS}/namespaces/{quote(namespace)}/{api.PLURAL}"
        params = {"limit": _PAGE, **({"labelSelector": selector} if selector else {})}
        found: list[Job] = []
        while True:
            page = await self._json("list", api.PLURAL, namespace, root, params=params)
            found.extend(Job(one) for one in objects(page, "items"))
            params["continue"] = text(page, "metadata", "continue")
            if not params["continue"]:
                return found

    async def get_job(self, name: str) -> Job:
        """The job of this name; a CliError with close names where there is none."""
        try:
            return Job(await self._json("get", api.PLURAL, self.namespace, self._path(name)))
        except refusals.NotFoundError:
            raise await self._no_such_job(name) from None

    async def find_job(self, name: str) -> Job | None:
        """The job of this name; None where there is none."""
        try:
            return Job(await self._json("get", api.PLURAL, self.namespace, self._path(name)))
        except refusals.NotFoundError:
            return None

    async def suspend_job(self, job: Job, *, suspend: bool) -> Job:
        """Set ``spec.suspend`` of this very job (its UID is a precondition)."""
        body = {"metadata": {"uid": job.uid}, "spec": {"suspend": suspend}}
        answer = await self._json("patch", api.PLURAL, self.namespace, self._path(job.name), method="PATCH", body=body)
        return Job(answer)

    async def try_job(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Have the API server judge a job as one that is created, and keep nothing of it.

        Every refusal is a CliError; a job that is there already under this name is none, as it is judged before that.
        """
        path = f"{_JOBS}/namespaces/{quote(namespace, safe='')}/{api.PLURAL}"
        meta = {**mapping(body, "metadata"), "namespace": namespace}
        params = {"dryRun": "All", "fieldValidation": "Strict"}
        try:
            await self._kube.request(
                "POST", path, body={**body, "metadata": meta}, params=params, timeout_seconds=_TIMEOUT_SECONDS
            )
        except kube.ApiError as error:
            if error.reason == "AlreadyExists":
                return
            if error.status in (400, 409, 422):
                raise CliError(error.message, code=Exit.USAGE) from None
            raise self._refusal(error, "create", api.PLURAL, namespace) from None

    async def job_events(self, job: Job) -> list[dict[str, Any]]:
        """Events about the job, oldest first."""
        path = f"/api/v1/namespaces/{quote(self.namespace)}/events"
        selector = f"involvedObject.uid={job.uid}"
        page = await self._json("list", "events", self.namespace, path, params={"fieldSelector": selector})
        return sorted(objects(page, "items"), key=event_time)

    async def job_pods(self, job: Job, *, rank: int, attempt: int | None = None) -> list[dict[str, Any]]:
        """Pods of one rank, of one attempt or of all, newest attempt first."""
        labels = {api.LABEL_JOB: job.name, api.LABEL_RANK: str(rank)}
        if attempt is not None:
            labels[api.LABEL_ATTEMPT] = str(attempt)
        path = f"/api/v1/namespaces/{quote(self.namespace)}/pods"
        params = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
        page = await self._json("list", "pods", self.namespace, path, params=params)
        return sorted(objects(page, "items"), key=pod_attempt, reverse=True)

    async def pod_log(self, pod: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """The log of the pod's trainer container, piece by piece. ``kube.ApiError`` where there is none."""
        params = {"container": api.CONTAINER_NAME, **({"follow": "true"} if follow else {})}
        if tail is not None:
            params["tailLines"] = str(tail)
        path = f"/api/v1/namespaces/{quote(self.namespace)}/pods/{quote(pod, safe='')}/log"
        try:
            async for piece in self._kube.stream(path, params=params):
                yield piece
        except kube.ApiError as error:
            if error.status in (0, 401, 403):
                raise self._refusal(error, "get", "pods/log", self.namespace) from None
            raise

    async def may(self, verb: str, resource: str, *, group: str = "", namespace: str = "") -> bool:
        """Whether the user may do this, in all namespaces where none is named; True where that cannot be told."""
        name, _, below = resource.partition("/")
        wanted = {"verb": verb, "group": group, "resource": name, "subresource": below, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        try:
            answer = json.loads(await self._kube.request("POST", path, body=review, timeout_seconds=_TIMEOUT_SECONDS))
        except (kube.ApiError, ValueError):
            return True
        return text(answer, "status", "allowed") != "False"

    async def lease(self, namespace: str, name: str) -> dict[str, Any]:
        """A Lease, by which operators tell that they live."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases/{quote(name, safe='')}"
        return await self._json("get", "leases", namespace, path)

    async def operator_pods(self, namespace: str) -> list[dict[str, Any]]:
        """The operator's pods in its namespace."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
        page = await self._json("list", "pods", namespace, path, params={"labelSelector": OPERATOR_SELECTOR})
        return list(objects(page, "items"))

    async def operator_snapshot(self, namespace: str, pod: str) -> forwarding.Answer:
        """What the pod of the operator answers to ``/snapshot``."""
        try:
            return await forwarding.get(
                self._kube,
                quote(namespace, safe=""),
                quote(pod, safe=""),
                port=ANSWERS_PORT,
                path="/snapshot",
                timeout_seconds=_SNAPSHOT_SECONDS,
            )
        except kube.ApiError as error:
            raise self._refusal(error, "create", "pods/portforward", namespace) from None

    def _path(self, name: str) -> str:
        return f"{_JOBS}/namespaces/{quote(self.namespace)}/{api.PLURAL}/{quote(name, safe='')}"

    async def _json(
        self,
        verb: str,
        resource: str,
        namespace: str | None,
        path: str,
        *,
        method: str = "GET",
        body: dict[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        content_type = "application/json" if method == "GET" else "application/merge-patch+json"
        try:
            answer = await self._kube.request(
                method, path, body=body, params=params, content_type=content_type, timeout_seconds=_TIMEOUT_SECONDS
            )
            parsed = json.loads(answer)
        except kube.ApiError as error:
            raise self._refusal(error, verb, resource, namespace) from None
        except ValueError:
            raise refusals.not_kubernetes(self._kube.host) from None
        return parsed if isinstance(parsed, dict) else {}

    def _refusal(self, error: kube.ApiError, verb: str, resource: str, namespace: str | None) -> CliError:
        asked = refusals.Asked(verb=verb, resource=resource, namespace=namespace, host=self._kube.host)
        return refusals.refusal(error, asked=asked, context=self.target.context)

    async def _no_such_job(self, name: str) -> CliError:
        """Look for close names, in all namespaces where that is allowed; also tells when the CRD is missing."""
        jobs: list[Job] | None = None
        for namespace in (None, self.namespace):
            with contextlib.suppress(refusals.ForbiddenError):
                jobs = await self.list_jobs(namespace)
                break
        places = None if jobs is None else [(job.namespace, job.name) for job in jobs]
        return refusals.no_such_job(name, namespace=self.namespace, places=places)


def _exists(config_path: str) -> bool:
    """Whether one of the files of a KUBECONFIG list exists."""
    return any(pathlib.Path(one).expanduser().exists() for one in config_path.split(os.pathsep) if one)
