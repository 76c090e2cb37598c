"""What a waiting job's status offers as a change that would start it, does start it when somebody makes it: always.

Every case stands on a plot of its own: nodes with a label and a taint that its jobs alone select and tolerate. There
are as many copies of a plot as it offers changes, and on each copy another one is made. What takes more to bring about
is a story.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import crd_schema
from policies.changes import carry_out
from policies.lines import (
    ends,
    has_room_kept,
    has_run,
    job,
    moved,
    nodes,
    run,
    runs,
    settings,
    submit,
    undisturbed,
    waits,
)
from policies.stage import Json, Stage
from policies.stories import act, play
from stowplan_allocator import alternatives
from stowplan_allocator.relaxing import ChangeKind
from world.cluster import gpu_node

pytestmark = pytest.mark.policies
ADVICE_SECONDS = 120.0
SETTINGS = {"answers": {"gatherSeconds": 0}}
PLOT = "policies.example/plot"
RACK = {"level": "rack", "mode": "Required"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Nodes, running jobs and the one that waits; ``offers`` are kinds of changes, as the status must list them.

    ``queues`` are what the queues own, by their names; jobs may use all of them. ``quota`` is a ResourceQuota.
    """

    nodes: Sequence[Json]
    waiting: Mapping[str, object]
    offers: str
    running: Sequence[Mapping[str, object]] = ()
    cordoned: Sequence[str] = ()
    queues: Mapping[str, int] = dataclasses.field(default_factory=dict)
    quota: Mapping[str, str] = dataclasses.field(default_factory=dict)


def node(name: str, **fields: Any) -> Json:
    return gpu_node(name, **fields)


PLOTS = {
    "too many pods, and one job in the way": Plot(
        nodes=[node("a"), node("b")],
        running=[{"preemption": {"preemptible": True}}],
        waiting={"pods": 2},
        offers="SmallerPods FewerPods JobEnded MoreNodes",
    ),
    "too many pods at every size that is allowed": Plot(
        nodes=[node("a")],
        waiting={"pods": 3, "elastic": {"minNodes": 2}},
        offers="SmallerPods FewerPods MoreNodes",
    ),
    "two racks where one is asked for": Plot(
        nodes=[node("a", rack="a"), node("b", rack="b")],
        waiting={"pods": 2, "topology": RACK},
        offers="TopologyPreferred WiderLevel SmallerPods FewerPods MoreNodes",
    ),
    "a taint": Plot(
        nodes=[node("a", taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}])],
        waiting={},
        offers="TaintTolerated",
    ),
    "a label that only a node in use carries": Plot(
        nodes=[node("a", labels={"disk": "fast"}), node("b")],
        running=[{"nodeSelector": {"disk": "fast"}}],
        waiting={"nodeSelector": {"disk": "fast"}},
        offers="WithoutSelector JobEnded MoreNodes",
    ),
    "another product than the one that is free": Plot(
        nodes=[node("a", product="NVIDIA-L4")],
        waiting={"accelerators": [{"product": "NVIDIA-H100-80GB-HBM3"}]},
        offers="OtherProduct",
    ),
    "a cordoned node": Plot(
        nodes=[node("a")],
        waiting={},
        cordoned=["a"],
        offers="NodesBack MoreNodes",
    ),
    "too few CPUs beside somebody who must not be disturbed": Plot(
        nodes=[node("a", cpu=8)],
        running=[{"gpus": 1, "cpu": 6, "preemption": {"preemptible": False}}],
        waiting={"gpus": 1, "cpu": 4},
        offers="SmallerPods JobEnded MoreNodes",
    ),
    "too little quota, and another queue that has some": Plot(
        nodes=[node("a"), node("b")],
        queues={"small": 4, "large": 4},
        running=[{"queue": "small", "preemption": {"preemptible": False}}],
        waiting={"queue": "small"},
        offers="OtherQueue MoreQuota JobEnded",
    ),
    "too little left of a ResourceQuota": Plot(
        nodes=[node("a"), node("b")],
        quota={"requests.nvidia.com/gpu": "6"},
        running=[{}],
        waiting={},
        offers="SmallerPods JobEnded MoreResourceQuota",
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a plot, whose nodes and jobs begin with ``prefix``, and the kind of change that is made on it."""

    sentence: str
    prefix: str
    kind: str

    @property
    def plot(self) -> Plot:
        return PLOTS[self.sentence]

    @property
    def plot_name(self) -> str:
        return self.prefix.rstrip("-")

    @property
    def waiting(self) -> str:
        return f"{self.prefix}wants"

    def nodes(self) -> dict[str, Json]:
        """Its nodes, for nobody else."""
        found = {}
        for one in self.plot.nodes:
            name = self.prefix + one["metadata"]["name"]
            labels = {**one["metadata"]["labels"], "kubernetes.io/hostname": name, PLOT: self.plot_name}
            taint = {"key": PLOT, "value": self.plot_name, "effect": "NoSchedule"}
            spec = {"taints": [*one["spec"].get("taints", []), taint]}
            found[name] = {**one, "metadata": {**one["metadata"], "name": name, "labels": labels}, "spec": spec}
        return found

    def job(self, name: str, fields: Mapping[str, Any]) -> tuple[str, Json]:
        """A job for its nodes."""
        selector = {PLOT: self.plot_name, **fields.get("nodeSelector", {})}
        toleration = {"key": PLOT, "operator": "Equal", "value": self.plot_name, "effect": "NoSchedule"}
        own = {key: value for key, value in fields.items() if key != "nodeSelector"}
        own["team"] = self.plot_name
        if "queue" in own:
            own["queue"] = f"{self.prefix}{own['queue']}"
        return job(self.prefix + name, nodeSelector=selector, tolerations=[toleration], **own)

    def offers(self, stage: Stage) -> dict[str, str]:
        """What its waiting job is offered: kind → sentence."""
        decision = stage.status(self.waiting).get("decision") or {}
        return {one["kind"]: one["message"] for one in decision.get("alternatives", ())}


COPIES = [
    Copy(sentence, f"p{number}-{kind.lower()[:12]}-", kind)
    for number, (sentence, plot) in enumerate(PLOTS.items())
    for kind in plot.offers.split()
]


def test_what_is_offered_starts_the_job(stage: Stage) -> None:
    running = [copy.job(f"has-{at}", one) for copy in COPIES for at, one in enumerate(copy.plot.running)]
    nodes = {name: body for copy in COPIES for name, body in copy.nodes().items()}
    stage.begin(nodes=nodes, num_jobs=len(running) + len(COPIES), settings=SETTINGS)
    for copy in COPIES:
        if copy.plot.quota:
            path = f"/api/v1/namespaces/{stage.namespace(copy.plot_name)}/resourcequotas"
            body = {"metadata": {"name": "cap"}, "spec": {"hard": copy.plot.quota}}
            stage.world.client.must("POST", path, body)
        for name, owned in copy.plot.queues.items():
            quotas = [{"product": "*", "nominal": owned}]
            spec = {"namespaces": [stage.namespace(copy.plot_name)], "quotas": quotas}
            stage.create_queue(copy.prefix + name, spec)
    stage.submit(*running)
    for _, body in running:
        stage.wait_until_it_runs(body["metadata"]["name"])
    for copy in COPIES:
        for name in copy.plot.cordoned:
            stage.world.cordon(copy.prefix + name)
    stage.submit(*(copy.job("wants", copy.plot.waiting) for copy in COPIES))
    stage.world.wait("all have advice", lambda: all(copy.offers(stage) for copy in COPIES), seconds=ADVICE_SECONDS)
    offers = {copy: copy.offers(stage) for copy in COPIES}
    wrong = {copy: sorted(found) for copy, found in offers.items() if sorted(found) != sorted(copy.plot.offers.split())}
    assert not wrong, "\n".join(f"{copy.sentence}: offered {found}" for copy, found in wrong.items())
    for copy, found in offers.items():
        carry_out(stage, copy.waiting, copy.kind, found[copy.kind])
    stuck = []
    for copy, found in offers.items():
        try:
            stage.wait_until_it_runs(copy.waiting)
        except TimeoutError:
            stuck.append(f"{copy.sentence}: {found[copy.kind]}: {stage.status(copy.waiting).get('decision')}")
    assert not stuck, "\n".join(stuck)


@act
def is_drained(stage: Stage, name: str) -> None:
    """`kubectl drain` of the nodes under a job, whose pods stay until it is known why they go; and `uncordon`."""
    stage.evict(name)
    stage.world.wait(f"it is known that {name} was evicted", lambda: "lastFailure" in stage.status(name))
    stage.let_go(name)


@act
def is_offered(stage: Stage, name: str, kind: str, *, says: str) -> None:
    """The status of a waiting job offers this change, in such words; somebody makes it."""
    found: dict[str, str] = {}

    def is_there() -> bool:
        decision = stage.status(name).get("decision") or {}
        found.update({one["kind"]: one["message"] for one in decision.get("alternatives", ())})
        return kind in found

    stage.world.wait(f"{name} is offered {kind}", is_there, seconds=ADVICE_SECONDS)
    assert says in found[kind], found[kind]
    carry_out(stage, name, kind, found[kind])


# Room is kept after a second, and answers come as often as the operator can.
SOON = settings(planner={"reserveAfterSeconds": 1}, answers={"gatherSeconds": 0, "intervalSeconds": 1})
STORIES = {
    "a job that keeps away from the only free node goes back there": [
        settings(**SETTINGS),
        nodes("a", "b"),
        submit(job("other")),
        runs("other", on="a"),
        submit(job("wants", stays=True)),
        runs("wants", on="b"),
        is_drained("wants"),
        is_offered("wants", "AvoidedNodesAllowed", says="after failures: b ("),
        runs("wants", on="b", attempt=2),
        undisturbed("other"),
    ],
    "one of two jobs moves to the other's node": [
        settings(**SETTINGS),
        nodes("a", "b"),
        submit(job("has-1", gpus=2), job("gone-1", gpus=2), job("has-2", gpus=2), job("gone-2", gpus=2)),
        run("has-1 gone-1 has-2 gone-2"),
        has_run("has-1", seconds=1200),
        ends("gone-1 gone-2"),
        submit(job("wants")),
        waits("wants", "Fragmented"),
        is_offered("wants", "JobsMoved", says="/has-2 to other nodes"),
        run("wants has-1 has-2"),
        moved("has-2", for_="wants"),
        undisturbed("has-1"),
    ],
    "somebody moves for a job for which room is kept, too": [
        SOON,
        nodes("a", "b"),
        submit(job("has-1", gpus=2), job("gone-1", gpus=2), job("has-2", gpus=2), job("gone-2", gpus=2)),
        run("has-1 gone-1 has-2 gone-2"),
        ends("gone-1 gone-2"),
        submit(job("wants")),
        has_room_kept("wants"),
        is_offered("wants", "JobsMoved", says=" to other nodes"),
        run("wants has-1 has-2"),
    ],
    "a large job for which room is kept is held back": [
        SOON,
        nodes("a", "b"),
        submit(job("holder")),
        runs("holder"),
        submit(job("large", pods=2)),
        has_room_kept("large"),
        submit(job("wants")),
        waits("wants", "ReservedForLargerJob", blockers="large"),
        is_offered("wants", "ReservationReleased", says="/large, for which room is kept"),
        run("holder wants"),
    ],
    "room that is kept for a job of high priority is for a higher one": [
        settings(**SETTINGS),
        nodes("a", "b"),
        submit(job("saves", stays=True)),
        runs("saves"),
        submit(job("vip", pods=2, priority="high")),
        waits("vip", "WaitingForPreemption"),
        submit(job("wants")),
        waits("wants", "QueuedBehind"),
        is_offered("wants", "HigherPriority", says='PriorityClass "urgent" of 1000 instead of 0'),
        runs("wants"),
    ],
}


# Of this kind the predicted start tells.
NO_CHANGE = {ChangeKind.LATER}
# What these kinds change is no field of a TrainingJob's spec.
NO_FIELD = {ChangeKind.WITHOUT_AFFINITY: "affinity", ChangeKind.ANY_CAPACITY_TYPE: "capacitytype"}


def test_every_kind_of_change_is_made_somewhere() -> None:
    on_plots = [kind for plot in PLOTS.values() for kind in plot.offers.split()]
    told = [re.match(r"is_offered\('.+?', '(\w+)'", line.text) for story in STORIES.values() for line in story]
    made = {*on_plots, *(found[1] for found in told if found)}
    assert made == {kind.value for kind in alternatives.FINDERS.keys() - NO_CHANGE - NO_FIELD.keys()}
    fields = " ".join(path for path, _ in crd_schema.walk()).lower()
    assert not [kind for kind, field in NO_FIELD.items() if field in fields], "such jobs can be now: play their stories"


@pytest.mark.parametrize("sentence", STORIES)
def test_what_is_offered_comes_true(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
