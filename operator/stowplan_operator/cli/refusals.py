"""What the API server or the kubeconfig refused, as an error that names the cause and what would fix it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from stowplan_operator import api, kube
from stowplan_operator.cli.exits import CliError, Exit

_INSTALL = "helm install stowplan charts/stowplan --namespace stowplan-system --create-namespace"


class NotFoundError(CliError):
    """The object is not there, or its whole kind."""


class ForbiddenError(CliError):
    """The user may not do this."""


class TransientError(CliError):
    """The cluster did not answer, or not in order; it may a moment later."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in the terms of RBAC, and the server it went to."""

    verb: str
    resource: str
    namespace: str | None
    host: str

    @property
    def where(self) -> str:
        """The namespace in words."""
        return f"in namespace {self.namespace}" if self.namespace else "in all namespaces"

    @property
    def permission(self) -> str:
        """The question for ``kubectl auth can-i``."""
        kind = f"{self.resource}.{api.GROUP}" if self.resource == api.PLURAL else self.resource
        return f"{self.verb} {kind} " + (f"-n {self.namespace}" if self.namespace else "-A")


def refusal(error: kube.ApiError, *, asked: Asked, context: str | None) -> CliError:
    """The error for a request that failed."""
    if error.status == 0:
        which = f"--context {context} " if context else ""
        return TransientError(
            f"cannot reach the cluster at {asked.host}: {_cause(error)}",
            code=Exit.UNREACHABLE,
            hint=f"is it up, and is this the right context? kubectl {which}cluster-info",
        )
    if error.status == 401:
        return CliError(
            f"the cluster at {asked.host} does not accept your credentials",
            code=Exit.UNREACHABLE,
            hint="log in anew; kubectl auth whoami shows who the cluster thinks you are",
        )
    if error.status == 403:
        return ForbiddenError(
            f"you may not {asked.verb} {asked.resource} {asked.where}: {error.message}",
            code=Exit.UNREACHABLE,
            hint=f"ask for that right (the chart gives it to the roles view and edit); check: "
            f"kubectl auth can-i {asked.permission}",
        )
    if error.status == 404:
        # A collection that is not there is a kind that is not there.
        if asked.verb == "list" and asked.resource == api.PLURAL:
            return not_installed(asked.host)
        return NotFoundError(error.message or "not found", code=Exit.USAGE)
    if error.status in (400, 409, 422):
        return CliError(
            f"the cluster refused to {asked.verb} {asked.resource} {asked.where}: {error.message}", code=Exit.USAGE
        )
    return TransientError(
        f"the cluster at {asked.host} failed to {asked.verb} {asked.resource} {asked.where}: "
        f"{error.status} {error.reason}: {error.message}",
        code=Exit.UNREACHABLE,
        hint="try again; kubectl get --raw /readyz shows whether the API server is ready",
    )


def _cause(error: kube.ApiError) -> str:
    """Why there was no answer: what the operating system said, where it said something."""
    refused = getattr(error.__cause__, "os_error", None)
    if isinstance(refused, OSError) and refused.errno:
        return os.strerror(refused.errno) if refused.errno > 0 else str(refused.strerror)
    return f"{error.reason}: {error.message}" if error.message else error.reason


def not_installed(host: str) -> CliError:
    """The cluster does not know TrainingJobs."""
    return CliError(
        f"the cluster at {host} does not know TrainingJobs ({api.PLURAL}.{api.GROUP}): Stowplan is not installed there",
        code=Exit.UNREACHABLE,
        hint=_INSTALL,
    )


def not_kubernetes(host: str) -> CliError:
    """The answer was not JSON."""
    return CliError(
        f"{host} does not answer as a Kubernetes API server does",
        code=Exit.UNREACHABLE,
        hint="check the cluster's server address: kubectl config view --minify",
    )


def no_such_job(name: str, *, namespace: str, places: Iterable[tuple[str, str]] | None) -> CliError:
    """No job of this name; ``places`` holds (namespace, name) of the jobs that exist, None where that is not known."""
    message = f"no TrainingJob {name} in namespace {namespace}"
    if places is None:
        return CliError(message, code=Exit.USAGE)
    known = list(places)
    elsewhere = sorted({place for place, other in known if other == name})
    here = [other for place, other in known if place == namespace]
    close = difflib.get_close_matches(name, here, n=3, cutoff=0.6)
    if elsewhere:
        hint = f"there is one in namespace {' and '.join(elsewhere[:3])}: add -n {elsewhere[0]}"
    elif close:
        hint = f"did you mean {' or '.join(close)}?"
    elif here:
        hint = f"jobs there: {', '.join(here[:5])}{', …' if len(here) > 5 else ''}"
    else:
        hint = "there are no TrainingJobs in that namespace" + (
            "" if {place for place, _ in known} <= {namespace} else "; kubectl stowplan list -A shows all"
        )
    return CliError(message, code=Exit.USAGE, hint=hint)


def no_kubeconfig() -> CliError:
    """Nothing says which cluster to ask."""
    return CliError(
        "no cluster to ask: KUBECONFIG is not set and ~/.kube/config does not exist",
        code=Exit.UNREACHABLE,
        hint="set KUBECONFIG or give --kubeconfig FILE",
    )


def missing_kubeconfig(path: str) -> CliError:
    """The kubeconfig that was named is not there."""
    return CliError(
        f"kubeconfig {path} does not exist", code=Exit.USAGE, hint="correct --kubeconfig or the variable KUBECONFIG"
    )


def bad_kubeconfig(cause: str, *, path: str, context: str | None) -> CliError:
    """The kubeconfig cannot be used as it stands."""
    if context and f"with name {context} in" in cause:
        return CliError(
            f"no context {context} in kubeconfig {path}",
            code=Exit.USAGE,
            hint="kubectl config get-contexts lists the contexts",
        )
    return CliError(
        f"kubeconfig {path} cannot be used: {cause.removeprefix('kubeconfig: ')}",
        code=Exit.USAGE,
        hint="kubectl config view shows what it holds",
    )
