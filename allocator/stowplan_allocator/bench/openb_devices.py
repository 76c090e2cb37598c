"""What may be free on the GPUs of one node, each different combination once and by number.

Nodes with the same amounts free on their devices share all that follows from them: what fits, what a request would
leave, what it is worth. What must stay true: a combination is a tuple in descending order and never changes; rows
are computed once, when a combination is first met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from stowplan_allocator import fragmentation
from stowplan_allocator.fragmentation import Room, Want

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNKNOWN = -2
NONE = -1


class DeviceStates:
    """Numbers combinations. ``classes`` are the different (number of GPUs, milli of each) that requests have."""

    def __init__(self, classes: Sequence[tuple[int, int]], *, most: int, price: Callable[[int], float]) -> None:
        self.classes = list(classes)
        self.devices: list[tuple[int, ...]] = []
        self._most = max(most, 1)
        self._price = price
        self._ids: dict[tuple[int, ...], int] = {}
        # By combination: what is free, what it is worth, and what each class of request could use of it.
        self.left: Floats = np.zeros(64)
        self.value: Floats = np.zeros(64)
        self.usable: Floats = np.zeros((64, len(self.classes)))
        self._after: npt.NDArray[np.int32] = np.full((len(self.classes), 64, self._most), UNKNOWN, dtype=np.int32)

    def number(self, devices: Sequence[int]) -> int:
        """The number of a combination, in any order."""
        key = tuple(sorted(devices, reverse=True))
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.devices)
            self.devices.append(key)
            if found == len(self.left):
                self._grow()
            self.left[found] = sum(key)
            self.value[found] = sum(self._price(free) for free in key)
            self.usable[found] = [_usable(key, num, milli) for num, milli in self.classes]
        return found

    def after(self, class_: int, states: Ints) -> npt.NDArray[np.int32]:
        """For each state the states that a request of the class may leave, filled up with ``NONE``."""
        rows: npt.NDArray[np.int32] = self._after[class_][states]
        missing = rows[:, 0] == UNKNOWN
        if missing.any():
            for state in np.unique(states[missing]).tolist():
                self._add_after(class_, state)
            rows = self._after[class_][states]
        return rows

    def _add_after(self, class_: int, state: int) -> None:
        num_gpus, milli = self.classes[class_]
        rooms = fragmentation.after(Room("", self.devices[state], ()), Want(num_gpus, milli, ()))
        numbers = [self.number(room.devices) for room in rooms]
        self._after[class_, state] = numbers + [NONE] * (self._most - len(numbers))

    def _grow(self) -> None:
        self.left = np.concatenate([self.left, np.zeros_like(self.left)])
        self.value = np.concatenate([self.value, np.zeros_like(self.value)])
        self.usable = np.concatenate([self.usable, np.zeros_like(self.usable)])
        self._after = np.concatenate([self._after, np.full_like(self._after, UNKNOWN)], axis=1)


def _usable(devices: tuple[int, ...], num_gpus: int, milli: int) -> int:
    fitting = [free for free in devices if free >= milli]
    return sum(fitting) if num_gpus and len(fitting) >= num_gpus else 0
