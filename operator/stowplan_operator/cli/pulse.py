"""Whether the operator still answers: a decision that does not change is not written again, so its age does not tell.

The operator renews a Lease every few seconds, which the chart lets everybody read. What must stay true: where it cannot
be read, nothing is said of the operator, neither that it runs nor that it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from stowplan_operator.cli import words
from stowplan_operator.cli.client import Cluster
from stowplan_operator.cli.exits import CliError
from stowplan_operator.cli.model import clean, number, text
from stowplan_operator.cli.words import Speaker

# The chart's settings.lease.name; under another name nothing is known.
LEASE = "stowplan-operator"
# Clocks of users differ from the cluster's.
_LEAST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Pulse:
    """When the operator last renewed its Lease (RFC 3339), how long ago that is, and how long a Lease lasts."""

    namespace: str
    seen_at: str
    seconds: float
    lasts_seconds: int

    @property
    def is_silent(self) -> bool:
        """Whether it is so long ago that no operator leads."""
        return self.seconds > max(_LEAST_SECONDS, 3 * self.lasts_seconds)

    @property
    def sentence(self) -> str:
        """What that means, for people."""
        return (
            f"The operator has not answered for {words.duration(self.seconds)}: its Lease {LEASE} in namespace "
            f"{self.namespace} is not renewed. What follows is what it said last; nothing starts until it runs again."
        )


async def take(cluster: Cluster, namespace: str, speaker: Speaker) -> Pulse | None:
    """The pulse of the operator in this namespace; None where it cannot be told."""
    try:
        lease = await cluster.lease(namespace, LEASE)
    except CliError:
        return None
    seen_at = str(clean(text(lease, "spec", "renewTime")))
    seconds = speaker.since(seen_at)
    if seconds is None:
        return None
    return Pulse(namespace, seen_at, seconds, number(lease, "spec", "leaseDurationSeconds") or 0)
