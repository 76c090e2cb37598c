"""Figures, lanes, pictures and the page: right on runs that can be counted by hand, safe with any name."""

from __future__ import annotations

import functools
import itertools
import json
import pathlib
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import simulate
from stowplan_allocator.simulate import documents, grids, lanes, pictures, report, style, summary
from unit.allocator import worlds

pytestmark = pytest.mark.slow

Run, Outcome = simulate.Run, simulate.Outcome
BAD_NAME = "<script>alert(1)</script>$\\frac{--!>&\"'"


def _run(start: int, end: int, *shares: tuple[str, int], outcome: Outcome = Outcome.COMPLETED) -> Run:
    placement = sa.Placement(worlds.H100, tuple(sa.NodeShare(node, pods) for node, pods in shares))
    return Run(start, end, placement, outcome)


def _record(name: str, *runs: Run, submitted: int = 0, pods: int = 1, gpus: int = 8, **more: Any) -> simulate.JobRecord:
    return simulate.JobRecord(worlds.job(name, pods, gpus), submitted, runs, **more)


def _sample(time: int, used: int = 0, *, total: int = 16, waiting: int = 0, **more: Any) -> simulate.Sample:
    more.setdefault("fragmented_share", 0.0)
    return simulate.Sample(time, total, used, total - used, 0, 0, waiting, waiting * 8, **more)


def _history(*jobs: simulate.JobRecord, nodes: int = 2, end: int = 100, **more: Any) -> simulate.History:
    some = tuple(worlds.node(f"n{index}") for index in range(nodes))
    more.setdefault("samples", (_sample(0, 8), _sample(50, 16, waiting=1, reasons=((sa.Reason.FRAGMENTED, 1),))))
    samples = more.pop("samples")
    return simulate.History(some, jobs, samples, 1, 1, 0.0, started_at_seconds=0, ended_at_seconds=end)


def _view(history: simulate.History, downtimes: summary.Downtimes | None = None) -> style.View:
    return style.View(history, downtimes or {})


WAITS = sa.Waiting(sa.Reason.FRAGMENTED, "too few <b>", (("pods_needed", "2"),), ("x",))
LOST = _run(0, 30, ("n0", 1), outcome=Outcome.NODE_LOST)
MIXED = _history(
    _record("a", _run(0, 50, ("n0", 1))),
    _record("b", LOST, _run(50, 100, ("n1", 1)), lost_seconds=20, submitted=0),
    _record("c", _run(90, 100, ("n0", 1), outcome=Outcome.UNFINISHED), submitted=40),
    _record("d", first_reason=WAITS, last_reason=WAITS, submitted=60),
)


def test_figures_are_those_counted_by_hand() -> None:
    got = summary.summarise(MIXED)
    assert (got["completed"], got["unfinished"], got["never_started"], got["runs"]) == (2, 1, 1, 4)
    assert got["utilisation_percent"] == pytest.approx(100 * 8 * (50 + 30 + 50 + 10) / 1600)
    assert got["utilisation_while_submitting_percent"] == pytest.approx(100 * 8 * (50 + 30 + 10) / 960, abs=0.01)
    assert (got["completion_mean_seconds"], got["completion_p95_seconds"]) == (75, 100)
    assert (got["queue_p50_seconds"], got["queue_max_seconds"]) == (0, 20)
    assert (got["runs_node_lost"], got["lost_job_seconds"], got["waiting_jobs_max"]) == (1, 20, 1)
    assert summary.waiting_reasons(MIXED) == [(sa.Reason.FRAGMENTED, 1, 1)]


def test_figures_of_nothing_are_none() -> None:
    got = summary.summarise(_history(nodes=0, end=0, samples=()))
    assert {got[name] for name in ("utilisation_percent", "queue_mean_seconds", "completion_p50_seconds")} == {None}


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (9000, "2 h 30 min"),
        (90_061, "1 d 1 h"),
        (86_405, "1 d"),
    ],
)
def test_durations_take_two_units(seconds: float | None, want: str) -> None:
    assert summary.duration(seconds) == want


def test_the_document_holds_every_record() -> None:
    text = "".join(documents.write(MIXED, about={"command": "x"}, downtimes={"n1": ((30, 50),)}))
    got = json.loads(text)
    assert list(got)[:2] == ["schema", "command"]
    assert [node["downtimes"] for node in got["nodes"]] == [[], [[30, 50]]]
    assert [job["state"] for job in got["jobs"]] == ["completed", "completed", "unfinished", "never-started"]
    assert got["jobs"][1]["runs"][0] == {
        "start_seconds": 0,
        "end_seconds": 30,
        "outcome": "node-lost",
        "product": worlds.H100,
        "shares": [{"node": "n0", "num_pods": 1}],
    }
    assert got["jobs"][3]["last_reason"]["numbers"] == {"pods_needed": "2"}
    assert got["samples"][1]["reasons"] == {"Fragmented": 1}
    assert len(text.splitlines()) < 30


def test_the_page_about_the_document_names_every_field() -> None:
    page = (pathlib.Path(__file__).parents[4] / "docs" / "simulator.md").read_text()
    got = json.loads("".join(documents.write(MIXED, about={})))
    names = {*got, *got["summary"], *got["nodes"][0], *got["jobs"][3], *got["samples"][0]}
    names |= {*got["jobs"][0]["runs"][0], *got["jobs"][3]["last_reason"]}
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


def test_the_page_tells_queues_apart_where_there_are_several() -> None:
    queues = {"a1": "a", "a2": "a", "b1": "b"}
    jobs = [
        simulate.Submission(worlds.job(name, gpus=8, queue=queue), 0, seconds)
        for (name, queue), seconds in zip(queues.items(), (10, 20, 30), strict=True)
    ]
    options = simulate.Options(queues=(sa.Queue("a"), sa.Queue("b")))
    history = simulate.simulate([worlds.node("n1")], jobs, options=options)
    about = report.About("t", "c", {}, {})
    rows = re.findall(r"<tr>(.*?)</tr>", report._queues(style.View(history, {})))
    assert [re.findall(r">([^<]*)</td>", row) for row in rows[1:]] == [
        ["a", "2", "2", "5 s", "0 s", "10 s", "10 s", "50.0 %"],
        ["b", "1", "1", "30 s", "30 s", "30 s", "30 s", "50.0 %"],
    ]
    assert "Jobs by queue" in report.page(style.View(history, {}), about=about)
    assert "Jobs by queue" not in report.page(style.View(MIXED, {}), about=about)


def test_downtimes_are_those_that_the_engine_draws() -> None:
    model = simulate.Failures(mean_seconds_between=500, repair_seconds=100)
    nodes = [worlds.node(f"n{index}") for index in range(4)]
    submissions = [
        simulate.Submission(worlds.job(f"j{index}", created_at_seconds=index), index, 900) for index in range(12)
    ]
    options = simulate.Options(failures=model, seed=7, sample_every_seconds=1)
    history = simulate.simulate(nodes, submissions, settings=sa.Settings(strategy=sa.Strategy.GREEDY), options=options)
    away = summary.downtimes(history, model=model, seed=7)
    assert away
    for sample in history.samples:
        now = sample.time_seconds
        down = sum(start <= now < end for spans in away.values() for start, end in spans)
        assert sample.accelerators_broken == 8 * down


def test_a_node_that_is_blocked_is_away_all_the_time() -> None:
    history = simulate.History((worlds.node("n", blocked="cordoned"),), (), (), 0, 0, 0.0, 5, 9)
    assert summary.downtimes(history, model=simulate.Failures(), seed=0) == {"n": ((5, 9),)}


@st.composite
def _runs(draw: st.DrawFn) -> simulate.History:
    """Runs that fit their nodes: each begins where its node has lanes, as the engine's do."""
    jobs, free = [], {}
    for index in range(draw(st.integers(1, 12))):
        node, gpus = draw(st.sampled_from(["n0", "n1"])), draw(st.integers(1, 8))
        start = draw(st.integers(0, 60))
        end = start + draw(st.integers(1, 40))
        moments = [start, *(begin for begin, _, _ in free.get(node, []) if start < begin < end)]
        if any(gpus + sum(g for b, e, g in free.get(node, []) if b <= moment < e) > 8 for moment in moments):
            continue
        free.setdefault(node, []).append((start, end, gpus))
        jobs.append(_record(f"j{index}", _run(start, end, (node, 1)), gpus=gpus))
    return _history(*jobs)


def _length(run: Run) -> int:
    return run.end_seconds - run.start_seconds


@given(_runs())
@settings(max_examples=60, deadline=None)
def test_lanes_hold_every_run_once_and_cells_add_up(history: simulate.History) -> None:
    view = _view(history)
    nodes = lanes.drawn_nodes(view)
    drawn = lanes.bars(view, nodes)
    held = sum(summary.accelerators(job, run) * _length(run) for job in history.jobs for run in job.runs)
    assert sum(bar.lanes * _length(bar.run) for bar in drawn) == held
    for one, other in itertools.combinations(drawn, 2):
        earlier, later = sorted((one.run, other.run), key=lambda run: run.start_seconds)
        if later.start_seconds < earlier.end_seconds:
            assert one.lane + one.lanes <= other.lane or other.lane + other.lanes <= one.lane
    cells = lanes.use(view, nodes, rows=500, columns=7)
    assert cells.sum() / 100 * 8 * 100 / 7 == pytest.approx(held)
    assert cells.min() >= 0
    assert cells.max() <= 100 + 1e-9


def test_cells_of_nodes_that_were_away_are_no_number() -> None:
    import numpy as np

    view = _view(MIXED, {"n1": ((0, 50),)})
    cells = lanes.use(view, lanes.drawn_nodes(view), rows=2, columns=2)
    assert np.isnan(cells[1, 0])
    assert cells[1, 1] == 100
    assert cells[0, 1] == pytest.approx(20)


def test_nodes_are_in_the_order_that_people_count() -> None:
    racks = {"n10": "r2", "n2": "r2", "n1": "r10", "n": "r10", "n01": "r2"}
    nodes = tuple(worlds.node(name, rack=rack) for name, rack in racks.items())
    history = simulate.History(nodes, (), (), 0, 0, 0.0, 0, 1)
    assert [node.name for node in lanes.drawn_nodes(_view(history))] == ["n01", "n2", "n10", "n", "n1"]


def test_few_nodes_are_bars_and_many_a_map() -> None:
    assert grids.is_gantt(_view(MIXED))
    assert not grids.is_gantt(_view(_history(nodes=60)))


def _about() -> report.About:
    return report.About(BAD_NAME, f"simulate {BAD_NAME}", {"a": BAD_NAME, "b": None}, {"x": "1"}, [BAD_NAME])


# Every empty or odd run that must still be drawn.
RUNS: dict[str, simulate.History] = {
    "a run with everything": MIXED,
    "nothing at all": _history(nodes=0, samples=()),
    "no time": _history(_record("a"), end=0, samples=(_sample(0, waiting=1),)),
    "many nodes": _history(_record("a", _run(0, 50, ("n0", 1))), nodes=60),
    "names of other people": _history(
        _record(BAD_NAME, _run(0, 50, ("n0", 1)), first_reason=WAITS),
        _record(f"{BAD_NAME}2", first_reason=WAITS, last_reason=WAITS),
    ),
}


@functools.cache
def _page(name: str) -> str:
    return report.page(_view(RUNS[name], {"n0": ((60, 90),)}), about=_about())


@pytest.mark.parametrize("name", RUNS)
def test_every_picture_of_a_page_is_sound_svg_in_the_colour_of_the_page(name: str) -> None:
    drawn = re.findall(r"<svg.*?</svg>", _page(name), re.DOTALL)
    assert len(drawn) == 6
    for picture in drawn:
        assert ET.fromstring(picture).tag.endswith("svg")
        assert "currentColor" in picture


def test_the_same_run_gives_the_same_pictures() -> None:
    view = _view(MIXED, {"n0": ((60, 90),)})
    assert pictures.svg(pictures.all_pictures(view)[-1], view) in _page("a run with everything")


def test_the_page_escapes_what_came_from_users_and_loads_nothing() -> None:
    page = _page("names of other people")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "too few &lt;b&gt;" in page
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert not re.search(r"url\((?!#)", page)
    for part in ("prefers-color-scheme:dark", "Content-Security-Policy", "Jobs that never started", "Versions"):
        assert part in page


def test_a_table_without_rows_is_left_out() -> None:
    assert "Jobs that never started" not in _page("nothing at all")


def test_what_the_user_has_set_up_in_matplotlib_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    view = _view(RUNS["no time"])
    picture = pictures.all_pictures(view)[-1]
    plain = pictures.svg(picture, view)
    monkeypatch.setitem(mpl.rcParams, "axes.facecolor", "black")
    assert pictures.svg(picture, view) == plain
    assert mpl.rcParams["axes.facecolor"] == "black"


def test_the_sheet_is_a_png() -> None:
    assert report.sheet(_view(MIXED), about=_about()).startswith(b"\x89PNG")


def test_every_reason_has_a_colour_of_its_own() -> None:
    assert style.REASON_COLOURS.keys() == set(sa.Reason)
    assert len(set(style.REASON_COLOURS.values())) == len(style.REASON_COLOURS)


def test_names_are_written_in_the_ink_that_reads_better() -> None:
    assert (style.ink_on("#ffffff"), style.ink_on("#000000"), style.ink_on(style.SKY)) == (
        "#000000",
        "#ffffff",
        "#000000",
    )
    assert style.ink_on("#7a4b2a") == "#ffffff"


@pytest.mark.parametrize(("name", "most", "want"), [("abc", 3, "abc"), ("abcdefgh", 5, "ab…gh"), ("abcdef", 2, "ab")])
def test_long_names_lose_their_middle(name: str, most: int, want: str) -> None:
    assert style.shortened(name, most) == want
