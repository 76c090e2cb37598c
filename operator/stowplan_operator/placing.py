"""What a job's status, and its Event, say of a place that it was just given. Pure.

The placement is written before any pod exists; whoever reads it afterwards, this process or the next, creates the pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stowplan_allocator import types
from stowplan_operator import api, decision, snapshot, views, wording

_NAMED_NODES = 8
_NAMED_DOMAINS = 4


def core(
    old: Mapping[str, Any],
    placement: types.Placement,
    *,
    domains: Sequence[str],
    certificate: types.Certificate,
    now_seconds: float,
) -> dict[str, Any]:
    """The core of the status (see ``status.derive``) with the placement, as the next attempt."""
    now = views.format_time(now_seconds)
    attempt = int(old.get("attempt", 0)) + 1
    new = dict(old, attempt=attempt, phase=api.Phase.STARTING.value)
    new["placement"] = snapshot.write_placement(placement, attempt=attempt, planned_at=now, domains=domains)
    new["decision"] = {
        "reason": "Placed",
        "message": _sentence(placement, domains),
        "certificate": decision.certificate_json(certificate),
        "since": now,
        "lastUpdated": now,
    }
    new.pop("retryAfter", None)
    return new


def event_text(placement: types.Placement, *, attempt: int) -> str:
    """Which nodes the attempt was given."""
    nodes = wording.some([share.node for share in placement.shares], most=_NAMED_NODES)
    return f"Attempt {attempt}: {placement.num_pods} pod(s) on {nodes}."


def _sentence(placement: types.Placement, domains: Sequence[str]) -> str:
    nodes = f"{len(placement.shares)} node{'s' if len(placement.shares) > 1 else ''}"
    product = f" with {placement.product}" if placement.product else ""
    where = f" in {wording.some(domains, most=_NAMED_DOMAINS)}" if domains else ""
    return f"{placement.num_pods} pod{'s' if placement.num_pods > 1 else ''} on {nodes}{product}{where}"
