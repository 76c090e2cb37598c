"""Every mistake in tables, YAML and JSON is told with its place and its mend, all at once; nothing is a traceback."""

from __future__ import annotations

import json
import pathlib
import re
import tempfile
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stowplan_allocator import inputs, snapshots
from stowplan_allocator.simulate import loaders
from unit.allocator.simulate.written import JOBS, MANIFESTS, NODES, a_live_cluster, faults_of

ROOT = pathlib.Path(__file__).parents[4]

# A sentence → the files, and what every fault must say, in order.
FAULTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "a cell is named by line and column": (
        {"nodes": NODES, "jobs": "name,duration,gpus\na,10m,8\nb,soon,1\n"},
        ["jobs.csv, line 3, column duration: 'soon' is not a duration; write seconds, or 90s, 10m, 1h30m, 2d"],
    ),
    "every fault of every file is told": (
        {"nodes": "name,gpus\na,8.5\n,1\n", "jobs": "name,duration,gpus\nb,1h,x\nc,,1\n"},
        [
            "nodes.csv, line 2, column gpus: '8.5' is not a whole number",
            "nodes.csv, line 3, column name: the field is missing",
            "jobs.csv, line 2, column gpus: 'x' is not a whole number",
            "jobs.csv, line 3, column duration: the field is missing; say how long",
        ],
    ),
    "an unknown column is told with the one that was meant": (
        {"nodes": "name,gpu\na,8\n", "jobs": JOBS},
        ['nodes.csv, line 2, column gpu: there is no such field; did you mean "gpus"?'],
    ),
    "a field of YAML is named by its path": (
        {"files_yaml": "nodes: [{name: a, gpus: 8}]\njobs: [{name: j, duration: 5, topology: {levl: rack}}]\n"},
        [
            "files.yaml: jobs[0].topology.level: the field is missing",
            "files.yaml: jobs[0].topology.levl: there is no such field",
        ],
    ),
    "a line of the wrong length": (
        {"nodes": "name,gpus\na,8,9\n", "jobs": JOBS},
        ["nodes.csv, line 2: 3 cells under 2 columns"],
    ),
    "a column twice": ({"nodes": "name,gpus,gpus\na,8,9\n", "jobs": JOBS}, ['line 1: column "gpus" stands twice']),
    "a name twice": (
        {"nodes": NODES + "a,4\n", "jobs": JOBS},
        ['nodes.csv, line 3, column name: node "a" is there already (nodes.csv, line 2, column name)'],
    ),
    "memory without a unit is a slip": (
        {"nodes": "name,gpus,memory\na,8,900\n", "jobs": JOBS},
        ["column memory: '900' is not an amount of memory with a unit; write for example 64Gi"],
    ),
    "a level that no node has": (
        {"nodes": NODES, "jobs": "name,duration,topology.level\nj,5,rak\n"},
        ['jobs.csv, line 2, column name: job "j" names the topology level "rak"; known: node'],
    ),
    "pods that are not among the sizes": (
        {"nodes": NODES, "jobs": "name,duration,pods,sizes\nj,5,3,2|4\n"},
        ["column sizes: 3 pods are not among the sizes; add 3"],
    ),
    "slices that do not fill the job": (
        {"nodes": NODES, "jobs": "name,duration,pods,topology.level,topology.slice_size\nj,5,3,node,2\n"},
        ["column topology.slice_size: 2 does not divide 3 pods"],
    ),
    "more sick GPUs than there are": (
        {"nodes": "name,gpus,unhealthy_gpus\na,1,2\n", "jobs": JOBS},
        ["column unhealthy_gpus: 2 of 1 GPUs; write at most the node's gpus"],
    ),
    "an empty table": ({"nodes": "", "jobs": JOBS}, ["nodes.csv: the table is empty"]),
    "nodes but no jobs": ({"nodes": NODES}, ["there are no jobs; give --jobs FILE"]),
    "jobs but no nodes": ({"jobs": JOBS}, ["there are no nodes; give --nodes FILE"]),
    "a table of both": ({"files_csv": NODES}, ["files.csv: a table holds nodes or jobs, not both"]),
    "jobs in a file that was given for its nodes": (
        {"nodes_yaml": "nodes: [{name: a}]\njobs: [{name: j, duration: 5}]\n"},
        ["nodes.yaml: it holds jobs as well; give it as --file"],
    ),
    "broken YAML": ({"files_yaml": "nodes:\n- {name: a\n"}, ["files.yaml, line 3, column 1: this is no YAML"]),
    "a key of YAML twice": (
        {"files_yaml": "nodes:\n- name: a\n  name: b\n"},
        ['files.yaml, line 3, column 3: this is no YAML: the key "name" stands twice'],
    ),
    "a key of YAML that is no text": (
        {"files_yaml": "nodes:\n- name: a\n  1: b\n"},
        ["files.yaml, line 3, column 3: this is no YAML: a name must be text: quote it"],
    ),
    "more copies than memory holds": (
        {"nodes": "name,count\na,999999999999\n", "jobs": JOBS},
        ["line 2, column count: '999999999999' is not 1,000,000 or less"],
    ),
    "broken JSON": ({"files_json": '{"nodes": [}'}, ["files.json, line 1, column 12: this is no JSON"]),
    "YAML that is no object": ({"files_yaml": "- a\n"}, ["files.yaml: ['a'] is no object; write"]),
    "an unknown part": (
        {"files_yaml": "node: []\n"},
        ['files.yaml: node: there is no such field; did you mean "nodes"?'],
    ),
    "entries that are no list": ({"files_yaml": "jobs: {a: 1}\n"}, ["files.yaml: jobs: this is no list"]),
    "an entry that is no object": ({"files_yaml": "jobs: [a]\n"}, ["files.yaml: jobs[0]: 'a' is no object"]),
    "quotes that do not close": ({"nodes": 'name,gpus\n"a,8\n', "jobs": JOBS}, ["nodes.csv, line 2: this is no CSV"]),
    "a queue that is not there": (
        {"files_yaml": "queues: [{name: vision}]\nnodes: [{name: a}]\njobs: [{name: j, duration: 5, queue: visio}]\n"},
        ['files.yaml: jobs[0].name: job "j" names the queue "visio"; did you mean "vision"?'],
    ),
    "queues without order": (
        {
            "files_yaml": "queues: [{name: a, parent: b}, {name: c, parent: c}, {name: d}, {name: d}]\n",
            "nodes": NODES,
            "jobs": JOBS,
        },
        ['files.yaml: queues[3].name: queue "d" is there already (files.yaml: queues[2].name)'],
    ),
    "a tree that is none": (
        {"files_yaml": "queues: [{name: a, parent: b}, {name: c, parent: c}]\n", "nodes": NODES, "jobs": JOBS},
        [
            'files.yaml: queues[0].name: queue "a": parent "b" does not exist; create it or name another',
            'files.yaml: queues[1].name: queue "c": it is an ancestor of itself; parents must form a tree',
        ],
    ),
    "a quota that is none": (
        {"files_yaml": "queues: [{name: a, quotas: {H100: {nominal: -1, lent: 3}, A100: x}}]\nreserve_after: soon\n"},
        [
            "files.yaml: reserve_after: 'soon' is not a duration",
            "files.yaml: queues[0].quotas.H100.nominal: -1 is not zero or more",
            'files.yaml: queues[0].quotas.H100.lent: there is no such field; did you mean "lend"?',
            "files.yaml: queues[0].quotas.A100: 'x' is not a whole number",
        ],
    ),
    "a snapshot with a fault": (
        {"files_json": json.dumps({"schema": snapshots.SCHEMA, "nodes": [], "jobs": 3})},
        ["files.json: jobs: 3 is not a list"],
    ),
}


@pytest.mark.parametrize(("files", "want"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(tmp_path: pathlib.Path, files: dict[str, str], want: list[str]) -> None:
    got = faults_of(tmp_path, **files)
    assert len(got) == len(want), got
    for part, line in zip(want, got, strict=True):
        assert part in line


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"name\n\xe4\n")
    (tmp_path / "folder").mkdir()
    names = tuple(tmp_path / name for name in ("missing.csv", "latin.csv", "folder"))
    with pytest.raises(inputs.InputError) as caught:
        loaders.load(loaders.Request(nodes=names))
    causes = [fault.cause for fault in caught.value.faults]
    assert causes == ["there is no such file", "byte 5 is no UTF-8", "it cannot be read: Is a directory"]


@pytest.mark.parametrize("kind", ["nodes", "jobs", "queues"])
def test_the_documentation_names_every_field(tmp_path: pathlib.Path, kind: str) -> None:
    entry: dict[str, Any] = {"name": "a", "duration": 5} if kind == "jobs" else {"name": "a"}
    if kind == "jobs":
        entry |= {"topology": {"level": "node", "?": 1}, "spread": {"level": "node", "max_pods": 1, "?": 1}}
    if kind == "queues":
        entry["quotas"] = {"H100": {"?": 1}}
    got = faults_of(tmp_path, files_json=json.dumps({kind: [{**entry, "?": 1}]}))
    known = [name for fault in got if "known: " in fault for name in fault.partition("known: ")[2].split(", ")]
    text = (ROOT / "docs" / "simulator.md").read_text()
    assert len(known) >= (9 if kind == "queues" else 12)
    assert not [name for name in known if not re.search(rf"`(?:\w+\.)?{name}(?:\.\w+)?`", text)]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_document_there_is_no_traceback(data: st.DataObject) -> None:
    """Any part of a sound document replaced by anything: it is read, or refused with its place."""
    documents = list(yaml.safe_load_all(MANIFESTS))
    some = data.draw(
        st.sampled_from([*documents, documents[0]["items"][0], OWN, json.loads(snapshots.write(a_live_cluster()))])
    )
    odd = data.draw(st.sampled_from([None, True, -1, 0.5, 10**20, "", "x", [], [None], ["x"], {}, {"x": "y"}, [{}]]))
    broken = _replaced(some, odd, data)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "any.json"
        path.write_text(json.dumps(broken, default=str))
        faults: tuple[inputs.Fault, ...] = ()
        try:
            loaders.load(loaders.Request(files=(path,), duration=5))
        except inputs.InputError as error:
            faults = error.faults
    assert all(fault.cause for fault in faults)


OWN = {
    "levels": ["rack"],
    "nodes": [{"name": "n", "gpus": 8, "topology": {"rack": "r"}, "labels": {"a": "b"}, "taints": ["a:NoExecute"]}],
    "jobs": [
        {"name": "j", "duration": 5, "sizes": [1, 2], "products": ["A=0.5"], "spread": {"level": "node", "max_pods": 1}}
    ],
}


def _replaced(value: Any, odd: Any, data: st.DataObject) -> Any:
    """The value with one part of it, at any depth, replaced."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or data.draw(st.integers(0, 4)) == 0:
        return odd
    chosen = data.draw(st.sampled_from(keys))
    if isinstance(value, dict):
        return {key: _replaced(one, odd, data) if key == chosen else one for key, one in value.items()}
    return [_replaced(one, odd, data) if key == chosen else one for key, one in enumerate(value)]
