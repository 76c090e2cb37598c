"""Speed at each size: what is noted of attempts, and the curve through it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from fakes.builders import JobBuilder, a_job
from stowplan_operator import elastic, throughput
from stowplan_operator.progress import Pace

SIZES = (1, 2, 4, 8, 16)


def relative(points: dict[int, float]) -> dict[int, int]:
    """Goodput by size, in thousandths, from seconds per step."""
    pairs = [(pods, Fraction(str(seconds))) for pods, seconds in points.items()]
    curve = throughput.fit(pairs, preferred=4)
    return {size: round(1000 * curve(4) / curve(size)) for size in SIZES}


FITS: dict[str, tuple[dict[int, float], dict[int, int]]] = {
    "nothing measured: Amdahl's law with a twentieth": ({}, {1: 260, 2: 513, 4: 1000, 8: 1905, 16: 3478}),
    "one size: the same law through it": ({4: 2.0}, {1: 260, 2: 513, 4: 1000, 8: 1905, 16: 3478}),
    "two sizes that share all work": ({2: 4.0, 4: 2.0}, {1: 250, 2: 500, 4: 1000, 8: 2000, 16: 4000}),
    "better than that is not believed": ({2: 5.0, 4: 2.0}, {1: 250, 2: 500, 4: 1000, 8: 2000, 16: 4000}),
    "two sizes that share half of it": ({1: 2.0, 2: 1.5}, {1: 625, 2: 833, 4: 1000, 8: 1111, 16: 1176}),
    "as fast with twice the pods": ({4: 1.0, 8: 1.0}, {1: 1000, 2: 1000, 4: 1000, 8: 1000, 16: 1000}),
    "communication that grows with the pods": (
        {1: 9.25, 4: 4.0, 8: 4.0},
        {1: 432, 2: 727, 4: 1000, 8: 1000, 16: 727},
    ),
}


@pytest.mark.parametrize(("points", "want"), FITS.values(), ids=FITS)
def test_fit(points: dict[int, float], want: dict[int, int]) -> None:
    assert relative(points) == want


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    st.dictionaries(st.integers(1, 64), st.fractions(Fraction(1, 1000), 1000, max_denominator=1000), max_size=6)
)
def test_more_pods_never_promise_more_than_their_share(points: dict[int, Fraction]) -> None:
    curve = throughput.fit(points.items(), preferred=8)
    assert min(curve.parts) >= 0
    for size in range(1, 64):
        assert 0 < size * curve(size) <= (size + 1) * curve(size + 1)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    st.lists(st.fractions(0, 10, max_denominator=100), min_size=3, max_size=3), st.sets(st.integers(1, 99), min_size=3)
)
def test_what_follows_the_law_is_found_again(parts: list[Fraction], sizes: set[int]) -> None:
    law = throughput.Curve(*parts)
    hypothesis.assume(any(parts))
    found = throughput.fit(((size, law(size)) for size in sizes), preferred=8)
    assert all(found(size) == law(size) for size in sizes)


def running(nodes: int = 2, **known: Any) -> JobBuilder:
    job = a_job().placed_on(*(f"n{number}" for number in range(nodes))).started()
    return job.nodes(4).spec(elastic={"maxNodes": 8}).status(elastic=known)


def noted(job: JobBuilder, pace: Pace | None) -> Any:
    return throughput.noted(job.view(), job.view().status, pace)


def test_what_an_attempt_did_is_noted_once_until_it_differs_by_a_tenth() -> None:
    known = noted(running(), Pace(120, 60))
    assert known["observed"] == [{"nodes": 2, "product": "NVIDIA-H100-80GB-HBM3", "stepsPerSecond": "2"}]
    assert noted(running(**known), Pace(130, 60)) == known
    assert noted(running(**known), Pace(180, 60))["observed"][0]["stepsPerSecond"] == "3"
    more = noted(running(4, **known), Pace(210, 60))
    assert [one["nodes"] for one in more["observed"]] == [2, 4]


NOT_NOTED = {
    "before a minute is over": (running(), Pace(1000, 59)),
    "before ten steps": (running(), Pace(9, 600)),
    "without a report": (running(), None),
    "of a job that is not elastic": (running().without("elastic"), Pace(120, 60)),
}


@pytest.mark.parametrize(("job", "pace"), NOT_NOTED.values(), ids=NOT_NOTED)
def test_nothing_is_noted(job: JobBuilder, pace: Pace | None) -> None:
    assert not noted(job, pace)


def goodput(job: JobBuilder) -> dict[int, int]:
    return dict(throughput.goodput_milli(job.view(), SIZES, preferred=4))


def test_the_curve_goes_by_what_was_noted_with_this_program_on_the_last_product() -> None:
    slow = {"nodes": 4, "product": "A100", "stepsPerSecond": "0.001"}
    known = noted(running(2), Pace(60, 60))
    known = noted(running(4, **{**known, "observed": [slow, *known["observed"]]}), Pace(60, 60))
    job = running(4, **known)
    assert goodput(job) == dict.fromkeys(SIZES, 1000)
    assert goodput(job.spec(args=["--other"])) == goodput(running())
    assert [one["nodes"] for one in noted(job.spec(args=["--other"]), Pace(60, 60))["observed"]] == [4]


def test_sizes_at_which_the_script_failed_before_its_first_step_are_not_used_again() -> None:
    def ended(nodes: int, reason: str, **steps: int) -> dict[str, Any]:
        return {"nodes": nodes, "reason": reason, "attempt": 1, **steps}

    job = a_job().nodes(4).spec(elastic={"minNodes": 1, "maxNodes": 8})
    failures = [
        ended(5, "ContainerFailed"),
        ended(6, "OOMKilled", firstStep=7, lastStep=7),
        ended(7, "ContainerFailed", firstStep=7, lastStep=9),
        ended(8, "NodeLost"),
        ended(4, "ContainerFailed"),
    ]
    assert elastic.usable(job.parsed(), {"history": failures}) == (1, 2, 3, 4, 7, 8)
    assert elastic.usable(job.parsed(), {"history": failures[:1]}) == tuple(range(1, 9)), "nobody told of steps"
