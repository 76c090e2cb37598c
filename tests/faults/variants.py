"""Variants of the operator: a later version of it, and ones that are broken on purpose to see the oracle go red.

A variant is a few lines that replace functions in the new process before the operator starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stowplan_operator import children, kube, lifecycle, podspec, store, writer

Json = dict[str, Any]
_VARIANTS: dict[str, Callable[[], None]] = {}


def apply(name: str) -> None:
    """Make this process that variant."""
    _VARIANTS[name]()


def _variant(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(change: Callable[[], None]) -> Callable[[], None]:
        _VARIANTS[name] = change
        return change

    return register


@_variant("later")
def _later_version() -> None:
    """An operator whose pods have another label, another variable and another priority class."""
    build = podspec.build_pods

    def build_later(*args: Any, **named: Any) -> dict[str, Json]:
        pods = build(*args, **named)
        for pod in pods.values():
            pod["metadata"]["labels"]["faults.example/version"] = "later"
            pod["spec"]["containers"][0].setdefault("env", []).append({"name": "LATER", "value": "1"})
            pod["spec"]["terminationGracePeriodSeconds"] = 7
        return pods

    podspec.build_pods = build_later
