"""Where a job wants to stand, and where it stands."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class TopologyMode(enum.Enum):
    """Whether a job's topology level must hold or is only wished for."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"


@dataclass(frozen=True, slots=True)
class TopologyRequest:
    """Keep all pods of the job in one domain of ``level`` (``node`` is the last, implicit level).

    With a ``slice_size`` the level holds for each slice of so many consecutive ranks and not
    for the whole job (pipeline stages); it must divide every size that the job may have.
    """

    level: str
    mode: TopologyMode = TopologyMode.PREFERRED
    slice_size: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """At most ``max_pods`` pods of the job in one domain of ``level`` (``node`` is the last, implicit level)."""

    level: str
    max_pods: int


class CapacityType(enum.StrEnum):
    """Which nodes a job may use, by how safely they stay."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"
    ANY = "Any"


@dataclass(frozen=True, slots=True)
class ProductChoice:
    """An acceptable accelerator product; throughput is relative to the job's best product, in thousandths."""

    product: str
    relative_throughput_milli: int = 1000


@dataclass(frozen=True, slots=True)
class NodeShare:
    """So many of a job's pods on one node."""

    node: str
    num_pods: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every pod of one job goes.

    ``shares`` lists nodes in rank order: the first share holds ranks 0 to
    ``num_pods - 1``, and so on; neighbours share topology domains.
    """

    product: str
    shares: tuple[NodeShare, ...]

    @property
    def num_pods(self) -> int:
        """Pods in all."""
        return sum(share.num_pods for share in self.shares)


@dataclass(frozen=True, slots=True)
class Protection:
    """Until when (Unix time) a running job must not be disturbed, and why, in words.

    ``then_costs`` is what a disturbance loses from then on, in accelerator-seconds, as far as is known.
    """

    until_seconds: int
    then_costs: int
    why: str
