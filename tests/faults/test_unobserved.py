"""Edges that the operator does not see, because it is frozen, dead, cut off, or told nothing by its watches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from faults import injected
from faults.edges import EDGES, Edge
from faults.flows import Flow
from faults.proxy import Fault
from faults.runner import Runner
from faults.sampling import some
from faults.steps import Steps

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def frozen(runner: Runner) -> Iterator[None]:
    runner.operator.freeze()
    try:
        yield
    finally:
        runner.operator.thaw()


@contextlib.contextmanager
def dead(runner: Runner) -> Iterator[None]:
    runner.operator.kill()
    try:
        yield
    finally:
        runner.start()


@contextlib.contextmanager
def cut_off(runner: Runner) -> Iterator[None]:
    yield from _while(runner, injected.CutOff())


@contextlib.contextmanager
def told_nothing(runner: Runner) -> Iterator[None]:
    yield from _while(runner, injected.SilentWatch(frozenset({"pods", "trainingjobs", "nodes"})))


def _while(runner: Runner, fault: injected.CutOff | injected.SilentWatch) -> Iterator[None]:
    faults: list[Fault] = runner.operator.proxy.faults
    faults.append(fault)
    try:
        yield
    finally:
        fault.over.set()
        faults.remove(fault)


AWAY = (frozen, dead, cut_off, told_nothing)
CASES = [(edge, away) for edge in EDGES for away in AWAY]


@pytest.mark.parametrize(
    ("edge", "away"), some(CASES, every=5, start=0), ids=lambda one: getattr(one, "name", getattr(one, "__name__", ""))
)
def test_the_right_end(
    runner: Runner, edge: Edge, away: Callable[[Runner], contextlib.AbstractContextManager[None]]
) -> None:
    def steps(s: Steps) -> None:
        edge.before(s)
        with away(runner):
            edge.change(s)
        edge.after(s)

    flow = Flow(edge.name, steps)
    run = runner.run(flow)
    broken = runner.judge(flow, run, kind=away.__name__.replace("_", " "), fault=away.__name__, compare=False)
    assert not broken, "\n".join(broken)
