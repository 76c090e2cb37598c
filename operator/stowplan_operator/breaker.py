"""When many nodes look sick at once, rather the looking is sick: a limit on what Stowplan itself excludes. Pure.

It limits only Stowplan's own judgements (XIDs, lost memory, devices that run short under a gang). What Kubernetes, the
cloud or an administrator say of a node (NotReady, cordon, taints, conditions) holds whatever the limit.

What must stay true: nodes found sick first stay excluded, so that a burst of false alarms does not give the GPUs that
are really gone back to jobs; the same facts give the same answer in every process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# One sick node of four is a sick node, not a sick exporter.
ALWAYS_EXCLUDABLE = 2


def limit(num_nodes: int, fraction: float) -> int:
    """How many of so many GPU nodes may be excluded."""
    return max(ALWAYS_EXCLUDABLE, math.floor(num_nodes * fraction))


def spare(sick_since: Mapping[str, float], *, num_nodes: int, fraction: float) -> frozenset[str]:
    """The nodes, of those found sick (name → since when, Unix seconds), that are used all the same."""
    by_age = sorted(sick_since, key=lambda name: (sick_since[name], name))
    return frozenset(by_age[limit(num_nodes, fraction) :])
