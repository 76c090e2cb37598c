"""Loaders of public traces, on lines as they are published."""

from __future__ import annotations

import pathlib

import pytest

import stowplan_allocator as sa
from stowplan_allocator import inputs
from stowplan_allocator.simulate.traces import openb, philly

OPENB_NODES = "sn,cpu_milli,memory_mib,gpu,model\nopenb-node-0000,64000,262144,2,P100\n"
OPENB_PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
    "openb-pod-0000,12000,16384,1,1000,,LS,Running,0,12537496,10\n"
    "openb-pod-0001,6000,12288,1,460,V100M16|V100M32|V100M32,LS,Running,427061,12902960,427061\n"
    "openb-pod-0002,8000,30517,0,0,,BE,Pending,500,700,\n"
)
PHILLY = (
    "timestamp,duration,num_gpus,cluster\n2017-10-02 00:01:55,108.0,1,11cb48\n"
    "2017-10-02 00:11:55,74.6,16,11cb48\n2017-10-02 00:11:55,5,12,x\n"
)


def _openb(folder: pathlib.Path, *, pods: str = OPENB_PODS) -> pathlib.Path:
    (folder / openb.NODES_FILE).write_text(OPENB_NODES)
    (folder / openb.PODS_FILE.format("default")).write_text(pods)
    return folder


def test_openb_rows_are_as_published(tmp_path: pathlib.Path) -> None:
    folder = _openb(tmp_path)
    assert openb.read_nodes(folder) == (openb.Machine("openb-node-0000", 64_000, 262_144, 2, "P100"),)
    first, share, cpu_only = openb.read_pods(folder, name="default")
    assert first == openb.Pod("openb-pod-0000", 12_000, 16_384, 1, 1000, (), 0, 10, 12_537_496)
    assert (share.gpu_milli, share.models) == (460, ("V100M16", "V100M32"))
    assert (cpu_only.num_gpus, cpu_only.scheduled_at) == (0, None)


def test_openb_pods_run_as_long_as_they_did(tmp_path: pathlib.Path) -> None:
    got = openb.scenario(_openb(tmp_path), name="default")
    assert got.nodes[0].available == sa.Resources(2, 64_000, 262_144)
    assert [(one.submitted_seconds, one.duration_seconds) for one in got.submissions] == [
        (0, 12_537_486),
        (427_061, 12_475_899),
        (500, 200),
    ]
    assert [one.product for one in got.submissions[1].job.products] == ["V100M16", "V100M32"]
    assert got.notes == ("1 pods that want a share of a GPU get a whole one",)


def test_openb_lists_without_times_cannot_be_replayed(tmp_path: pathlib.Path) -> None:
    pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\nopenb-pod-0000,12000,16384,1,1000\n"
    folder = _openb(tmp_path, pods=pods)
    assert openb.read_pods(folder, name="default")[0].created_at is None
    with pytest.raises(inputs.InputError, match="have no times"):
        openb.scenario(folder, name="default")


def test_philly_jobs_of_several_nodes_are_gangs_of_equal_pods(tmp_path: pathlib.Path) -> None:
    (tmp_path / "philly.csv").write_text(PHILLY)
    rows = philly.read(tmp_path / "philly.csv")
    assert rows[0] == philly.Row(1_506_902_515, 108, 1, "11cb48")
    got = philly.scenario(tmp_path / "philly.csv", num_gpus=16, per_node=8)
    assert [node.name for node in got.nodes] == ["node-0", "node-1"]
    assert [(one.job.num_pods, one.job.pod.accelerators) for one in got.submissions] == [(1, 1), (2, 8), (2, 6)]
    assert [one.duration_seconds for one in got.submissions] == [108, 75, 5]
    assert len({one.job.id for one in got.submissions}) == 3


def test_philly_gpus_must_fill_nodes() -> None:
    with pytest.raises(inputs.InputError, match="564 GPUs are no whole number of nodes with 8"):
        philly.nodes(564, per_node=8)


FAULTS = {
    "a column is missing": ("timestamp,duration,num_gpus\n", "the table has no column cluster"),
    "a cell cannot be read": (PHILLY + "never,1,1,x\n", "line 5, column timestamp: 'never' is not a time"),
    "a cell is empty": (PHILLY + "2017-10-02,1,,x\n", "line 5, column num_gpus: '' is not a whole number"),
    "a line is cut": (PHILLY + "2017\n", "line 5: 1 cells under 4 columns"),
    "there is nothing": ("", "the table has no column timestamp, duration, num_gpus, cluster"),
}


@pytest.mark.parametrize(("text", "want"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_of_a_trace_are_named_with_their_line(tmp_path: pathlib.Path, text: str, want: str) -> None:
    (tmp_path / "philly.csv").write_text(text)
    with pytest.raises(inputs.InputError) as caught:
        philly.read(tmp_path / "philly.csv")
    assert want in str(caught.value)


def test_a_trace_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(inputs.InputError, match=r"missing\.csv: it cannot be read: No such file"):
        philly.read(tmp_path / "missing.csv")
