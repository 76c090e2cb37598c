"""What a pod that does not start waits for, and whose fault that is: read from what the kubelet says of it. Pure.

The kubelet tells a reason and a message for images and for the container's configuration. For volumes and the network
it tells only that it is creating the container; the cause is in the pod's Events, which the operator may not read.
"""

from __future__ import annotations

import enum
import re

# A wrong image name, key or user stays wrong, but a registry or a ConfigMap may be a little late.
PATIENCE_SECONDS = 120


class Trouble(enum.Enum):
    """Whose fault it is that a container does not start."""

    IMAGE = enum.auto()  # the image does not exist, or the job has no access to it
    CONFIG = enum.auto()  # the container cannot be made as the job describes it
    REGISTRY = enum.auto()  # the registry does not answer
    UNKNOWN = enum.auto()


_HOPELESS = ("InvalidImageName", "ErrImageNeverPull")
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
_CONFIG_REASONS = ("CreateContainerConfigError",)
_NO_IMAGE = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|denied|unauthorized|authentication required"
    r"|insufficient_scope|forbidden|no basic auth|no match for platform|invalid reference",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"timeout|deadline exceeded|connection refused|connection reset|toomanyrequests|too many requests|unavailable"
    r"|bad gateway|internal server error|server misbehaving|unexpected EOF|network is unreachable|no route to host",
    re.IGNORECASE,
)


def trouble_of(reason: str, message: str) -> Trouble:
    """Whose fault a container's ``waiting`` state is, by its reason and message."""
    if reason in _CONFIG_REASONS:
        return Trouble.CONFIG
    if reason in _HOPELESS:
        return Trouble.IMAGE
    if reason in _PULL_REASONS:
        if _NO_ANSWER.search(message):
            return Trouble.REGISTRY
        if _NO_IMAGE.search(message):
            return Trouble.IMAGE
    return Trouble.UNKNOWN


def patience_seconds(reason: str, message: str) -> int | None:
    """How long after a pod's creation waiting makes no sense any more; None for as long as the start-up limit."""
    if reason in _HOPELESS:
        return 0
    return PATIENCE_SECONDS if trouble_of(reason, message) in (Trouble.IMAGE, Trouble.CONFIG) else None


def described(reason: str, message: str, *, pod: str) -> str:
    """Why the pod waits, in words."""
    if reason in ("", "ContainerCreating", "PodInitializing") and not message:
        return (
            "its container is not created, and the kubelet does not say what it waits for (a volume, the image, the "
            f"network); see kubectl describe pod {pod}"
        )
    return f"{reason}: {message}" if reason and message and reason not in message else message or reason
