"""Amounts of what pods take from nodes: integers in the unit that the field's name says."""

from __future__ import annotations

from dataclasses import dataclass


def is_part_of_device(name: str) -> bool:
    """Whether an extended resource is a part of an accelerator: a MIG slice, or a replica of a shared device.

    The device plugins call them ``nvidia.com/mig-1g.5gb`` and ``nvidia.com/gpu.shared``.
    """
    base = name.rpartition("/")[2]
    return base.startswith("mig-") or base.endswith(".shared")


@dataclass(frozen=True, slots=True)
class Resources:
    """Amounts of what pods take from nodes.

    ``accelerators`` counts whole devices of the cluster's accelerator resource
    (``nvidia.com/gpu``); ``other`` holds every further extended resource by name,
    sorted, without zeros.
    """

    accelerators: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    other: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Bring ``other`` into its one normal form."""
        normal = tuple(sorted((name, amount) for name, amount in self.other if amount))
        object.__setattr__(self, "other", normal)

    @property
    def has_devices(self) -> bool:
        """Whether any of it is accelerators, or parts of them."""
        return self.accelerators > 0 or any(amount > 0 and is_part_of_device(name) for name, amount in self.other)

    def __add__(self, more: Resources) -> Resources:
        return self._combine(more, 1)

    def __sub__(self, less: Resources) -> Resources:
        """Differences may be negative: a node can lose a device under a running pod."""
        return self._combine(less, -1)

    def __mul__(self, count: int) -> Resources:
        return Resources(
            accelerators=self.accelerators * count,
            cpu_milli=self.cpu_milli * count,
            memory_mib=self.memory_mib * count,
            other=tuple((name, amount * count) for name, amount in self.other),
        )

    def _combine(self, that: Resources, sign: int) -> Resources:
        other = self.other
        if that.other:
            merged = dict(self.other)
            for name, amount in that.other:
                merged[name] = merged.get(name, 0) + sign * amount
            other = tuple(merged.items())
        return Resources(
            accelerators=self.accelerators + sign * that.accelerators,
            cpu_milli=self.cpu_milli + sign * that.cpu_milli,
            memory_mib=self.memory_mib + sign * that.memory_mib,
            other=other,
        )

    def or_more(self, other: Resources) -> Resources:
        """Of each amount the larger one."""
        more = dict(self.other)
        for name, amount in other.other:
            more[name] = max(amount, more.get(name, 0))
        return Resources(
            accelerators=max(self.accelerators, other.accelerators),
            cpu_milli=max(self.cpu_milli, other.cpu_milli),
            memory_mib=max(self.memory_mib, other.memory_mib),
            other=tuple(more.items()),
        )

    def fits_in(self, room: Resources) -> bool:
        """Whether every amount is at most the one in ``room``."""
        if (
            self.accelerators > room.accelerators
            or self.cpu_milli > room.cpu_milli
            or self.memory_mib > room.memory_mib
        ):
            return False
        if not self.other:
            return True
        there = dict(room.other)
        return all(amount <= there.get(name, 0) for name, amount in self.other)

    def items(self) -> tuple[tuple[str, int], ...]:
        """All non-zero amounts by name: ``accelerators``, ``cpu_milli``, ``memory_mib``, then the others."""
        own = []
        if self.accelerators:
            own.append(("accelerators", self.accelerators))
        if self.cpu_milli:
            own.append(("cpu_milli", self.cpu_milli))
        if self.memory_mib:
            own.append(("memory_mib", self.memory_mib))
        return (*own, *self.other)
