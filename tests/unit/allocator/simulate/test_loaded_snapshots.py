"""A snapshot of a live cluster runs on from its moment."""

from __future__ import annotations

import dataclasses
import pathlib

import stowplan_allocator as sa
from stowplan_allocator import simulate, snapshots
from stowplan_allocator.simulate import loaders
from unit.allocator import worlds
from unit.allocator.simulate.written import a_live_cluster, faults_of, load


def test_a_job_of_a_snapshot_must_say_how_long_it_runs(tmp_path: pathlib.Path) -> None:
    (fault,) = faults_of(tmp_path, files_json=snapshots.write(a_live_cluster()))
    assert 'jobs[2].expected_seconds: nothing says how long "silent" runs; write its seconds, or give' in fault


def test_a_snapshot_runs_on_from_its_moment(tmp_path: pathlib.Path) -> None:
    kept = a_live_cluster()
    got = load(tmp_path, files_json=snapshots.write(kept), request=loaders.Request(duration=7))
    assert (got.nodes, got.levels, got.notes) == (kept.nodes, worlds.LEVELS, ())
    assert [one.duration_seconds for one in got.submissions] == [60, 90, 7]
    assert [one.placement for one in got.submissions] == [kept.jobs[0].placement, None, None]
    assert {
        (one.job.placement, one.job.leaving, one.submitted_seconds - kept.now_seconds) for one in got.submissions
    } == {(None, False, 0)}
    history = simulate.simulate(got.nodes, got.submissions, settings=sa.Settings(strategy=sa.Strategy.GREEDY))
    (first,), (second,), (third,) = (job.runs for job in history.jobs)
    spans = [(run.start_seconds - kept.now_seconds, run.placement.shares[0].node) for run in (first, second, third)]
    assert spans == [(0, "n"), (0, "m"), (60, "n")]
    assert [job.job.id for job in history.jobs] == ["runs", "silent", "waits"]


def test_a_job_that_runs_on_nodes_that_are_gone_waits(tmp_path: pathlib.Path) -> None:
    kept = dataclasses.replace(a_live_cluster(), nodes=a_live_cluster().nodes[:1])
    got = load(tmp_path, files_json=snapshots.write(kept), request=loaders.Request(duration=7))
    assert got.submissions[0].placement is None
    assert '"runs" runs on nodes that are not there, so it waits' in got.notes[0]
