"""A solver that does not keep to its time limit is left behind.

HiGHS now and then overruns its limit by minutes, deep in a phase that looks at no clock, and
a thread cannot be killed. But nobody has to wait for it: each solve runs in a thread of its
own, and a plan goes on with what it has when its time is up. What must stay true: the model
of an abandoned solve is never touched again; and a process that plans again and again can ask
whether one is still at work, and make a new start. A process that ends waits a while for it,
since HiGHS would abort the interpreter under it.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

# A solver needs a moment even for nothing.
LEAST_SECONDS = 0.05
SECONDS_AT_EXIT = 30.0

_abandoned: list[threading.Thread] = []


class Overrun(Exception):  # noqa: N818 - says what happened; it is no error of ours
    """A solver was still at work when its time was long up."""


def run[T](work: Callable[[], T], *, seconds: float) -> T:
    """The result of the work, or ``Overrun`` after so many seconds, with the work left to itself."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="solver", daemon=True)
    thread.start()
    thread.join(max(seconds, LEAST_SECONDS))
    if errors:
        raise errors[0]
    if not results:
        if not _abandoned:
            atexit.register(_wait)
        _abandoned.append(thread)
        raise Overrun(f"the solver overran its time limit and was left behind after {seconds:.1f} s")
    return results[0]


def _wait() -> None:
    for thread in _abandoned:
        thread.join(SECONDS_AT_EXIT)


def is_still_at_work() -> bool:
    """Whether an abandoned solve still takes processor time and memory from this process."""
    _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
    return bool(_abandoned)
