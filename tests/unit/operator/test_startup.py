"""Whose fault it is that a container does not start."""

from __future__ import annotations

import pytest

from stowplan_operator import startup
from stowplan_operator.startup import PATIENCE_SECONDS, Trouble

NOT_FOUND = 'Back-off pulling image "x:1": ErrImagePull: rpc error: code = NotFound desc = x:1: not found'
DENIED = "pull access denied, repository does not exist or may require authorization: server message: denied"
TROUBLE: dict[str, tuple[str, str, Trouble, int | None]] = {
    "no such image": ("ImagePullBackOff", NOT_FOUND, Trouble.IMAGE, PATIENCE_SECONDS),
    "no access to the image": ("ErrImagePull", DENIED, Trouble.IMAGE, PATIENCE_SECONDS),
    "another architecture": ("ErrImagePull", "no match for platform in manifest", Trouble.IMAGE, PATIENCE_SECONDS),
    "not a name": ("InvalidImageName", "couldn't parse image name", Trouble.IMAGE, 0),
    "never pulled": ("ErrImageNeverPull", "image is not present with pull policy of Never", Trouble.IMAGE, 0),
    "a registry that is away": (
        "ImagePullBackOff",
        "dial tcp 10.0.0.1:443: connect: connection refused",
        Trouble.REGISTRY,
        None,
    ),
    "a registry that is slow": ("ErrImagePull", "net/http: TLS handshake timeout", Trouble.REGISTRY, None),
    "a registry that has had enough": (
        "ErrImagePull",
        "429 Too Many Requests: toomanyrequests",
        Trouble.REGISTRY,
        None,
    ),
    "a registry of an unknown name may be a typing error": ("ErrImagePull", "no such host", Trouble.UNKNOWN, None),
    "a missing ConfigMap": (
        "CreateContainerConfigError",
        'configmap "a" not found',
        Trouble.CONFIG,
        PATIENCE_SECONDS,
    ),
    "an image that wants root": (
        "CreateContainerConfigError",
        "container has runAsNonRoot and image will run as root",
        Trouble.CONFIG,
        PATIENCE_SECONDS,
    ),
    "being created": ("ContainerCreating", "", Trouble.UNKNOWN, None),
    "words of others about something that is not found": ("Unschedulable", "claim not found", Trouble.UNKNOWN, None),
}


@pytest.mark.parametrize(("reason", "message", "want", "patience"), TROUBLE.values(), ids=TROUBLE)
def test_trouble(reason: str, message: str, want: Trouble, patience: int | None) -> None:
    assert startup.trouble_of(reason, message) is want
    assert startup.patience_seconds(reason, message) == patience


@pytest.mark.parametrize(
    ("reason", "message", "want"),
    [
        pytest.param("ErrImagePull", "no", "ErrImagePull: no", id="both"),
        pytest.param("ErrImagePull", NOT_FOUND, NOT_FOUND, id="a message that has the reason"),
        pytest.param("CrashLoopBackOff", "", "CrashLoopBackOff", id="a reason alone"),
        pytest.param("PodInitializing", "", "see kubectl describe pod p", id="nothing"),
    ],
)
def test_described(reason: str, message: str, want: str) -> None:
    assert startup.described(reason, message, pod="p").endswith(want)
