"""From files to what is simulated: nodes, submissions and topology levels.

A file is told by its content: tables by their suffix, documents by what they say they are. What must stay true: all
faults of all files are reported together, each with its place; nothing that was read is dropped without a note.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stowplan_allocator import inputs, snapshots, types
from stowplan_allocator import queues as trees
from stowplan_allocator.simulate import forms, manifests, parsing, tables, values, workload
from stowplan_allocator.simulate.fields import Fields

# Times before this moment of 2001 are counted from the start; later ones are dates.
FIRST_DATE_SECONDS = 1_000_000_000
_OWN_KEYS = ("levels", "nodes", "jobs", "queues", "reserve_after")


@dataclass(frozen=True, slots=True)
class Request:
    """Which files to read, and how. ``files`` may hold anything; the others one kind each."""

    nodes: tuple[pathlib.Path, ...] = ()
    jobs: tuple[pathlib.Path, ...] = ()
    files: tuple[pathlib.Path, ...] = ()
    levels: tuple[str, ...] = ()
    reading: manifests.Reading = field(default_factory=manifests.Reading)
    priorities: Mapping[str, int] = field(default_factory=dict)
    duration: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated; ``notes`` are for the user: what was left out or assumed.

    ``reserve_after_seconds`` is what the inputs say of room that is kept (see ``engine.Options``).
    """

    nodes: tuple[types.Node, ...]
    submissions: tuple[workload.Submission, ...]
    levels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    queues: tuple[types.Queue, ...] = ()
    reserve_after_seconds: int | None = None


def load(request: Request) -> Scenario:
    """Read all files; ``inputs.InputError`` with everything that is wrong in them."""
    shelf = _Shelf(request)
    for path in request.files:
        shelf.read(path, nodes=True, jobs=True)
    for path in request.nodes:
        shelf.read(path, nodes=True, jobs=False)
    for path in request.jobs:
        shelf.read(path, nodes=False, jobs=True)
    return shelf.finish()


class _Shelf:
    """What was found so far, each thing with its place."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.faults: list[inputs.Fault] = []
        self.notes: list[str] = []
        self.forms: list[tuple[str, forms.NodeForm]] = []
        self.nodes: list[tuple[str, types.Node]] = []
        self.domains: dict[str, dict[str, str]] = {}
        self.submissions: list[tuple[str, workload.Submission]] = []
        self.levels: list[tuple[str, ...]] = []
        self.queues: list[tuple[str, types.Queue]] = []
        self.reserve_after: int | None = None
        self.priorities = dict(request.priorities)
        self.training_jobs: list[tuple[str, Mapping[str, Any]]] = []

    def read(self, path: pathlib.Path, *, nodes: bool, jobs: bool) -> None:
        """Take in one file, which may hold nodes, jobs or both."""
        text = parsing.text_of(path, faults=self.faults)
        if text is None:
            return
        if path.suffix.lower() != ".csv":
            before = len(self.nodes) + len(self.forms), len(self.submissions) + len(self.training_jobs)
            for where, document in parsing.parse(text, where=str(path), faults=self.faults):
                self._document(document, where=where)
            found = len(self.nodes) + len(self.forms), len(self.submissions) + len(self.training_jobs)
            self._expect(path, nodes=nodes or found[0] == before[0], jobs=jobs or found[1] == before[1])
        elif nodes and jobs:
            fix = "give tables as --nodes FILE and --jobs FILE"
            self.faults.append(inputs.Fault(str(path), "a table holds nodes or jobs, not both", fix))
        else:
            for fields in tables.read(text, where=str(path), faults=self.faults):
                self._record(fields, nodes=nodes)

    def _expect(self, path: pathlib.Path, *, nodes: bool, jobs: bool) -> None:
        if not (nodes and jobs):
            kind = "jobs" if nodes else "nodes"
            self.faults.append(inputs.Fault(str(path), f"it holds {kind} as well", "give it as --file"))

    def _record(self, fields: Fields, *, nodes: bool) -> None:
        if nodes:
            form = forms.read_nodes(fields)
            self.forms.append((fields.place("name"), form))
        else:
            self.submissions += ((fields.place("name"), one) for one in forms.read_jobs(fields))

    def _document(self, document: object, *, where: str) -> None:
        kind = document.get("kind") if isinstance(document, Mapping) else None
        if not isinstance(document, Mapping):
            fix = 'write "nodes:" and "jobs:", or Kubernetes manifests'
            self.faults.append(inputs.Fault(where, f"{inputs.quoted(document)} is no object", fix))
        elif "schema" in document:
            self._snapshot(document, where=where)
        elif kind is None:
            self._own(document, where=where)
        elif isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
            for index, item in enumerate(document["items"]):
                self._document(item, where=f"{where}: items[{index}]")
        elif kind == "Node":
            node = manifests.read_node(document, reading=self.request.reading, where=where, faults=self.faults)
            if node is not None:
                self._add((where, node), levels=tuple(name for name, _ in self.request.reading.levels))
        elif kind == "PriorityClass":
            name, value = manifests.read_priority(document, where=where, faults=self.faults)
            self.priorities.setdefault(name, value)
        elif kind == "TrainingJob":
            self.training_jobs.append((where, document))
        elif kind == "Queue":
            self.queues.append((where, manifests.read_queue(document, where=where, faults=self.faults)))
        else:
            self.notes.append(f"{where}: {kind} is neither a node nor a job and was passed over")

    def _own(self, document: Mapping[str, Any], *, where: str) -> None:
        for name in document:
            if name not in _OWN_KEYS:
                fix = inputs.unknown(str(name), known=_OWN_KEYS)
                self.faults.append(inputs.Fault(f"{where}: {name}", "there is no such field", fix))
        levels = document.get("levels") or []
        if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
            self.faults.append(inputs.Fault(f"{where}: levels", "this is no list of names", "write [zone, rack]"))
        else:
            self.levels.append(tuple(levels))
        own = Fields(document, place=lambda name: f"{where}: {name}", faults=self.faults)
        self.reserve_after = own.take("reserve_after", values.seconds, self.reserve_after)
        for kind in ("nodes", "jobs", "queues"):
            entries = document.get(kind) or []
            if not isinstance(entries, list):
                self.faults.append(inputs.Fault(f"{where}: {kind}", "this is no list", 'begin every entry with "- "'))
                continue
            for index, entry in enumerate(entries):
                place = f"{where}: {kind}[{index}]"
                if not isinstance(entry, Mapping):
                    fix = "write its fields, as name: a"
                    self.faults.append(inputs.Fault(place, f"{inputs.quoted(entry)} is no object", fix))
                    continue
                fields = Fields(entry, place=functools.partial("{}.{}".format, place), faults=self.faults)
                if kind == "queues":
                    self.queues.append((fields.place("name"), forms.read_queue(fields)))
                else:
                    self._record(fields, nodes=kind == "nodes")

    def _add(self, *nodes: tuple[str, types.Node], levels: tuple[str, ...]) -> None:
        """Nodes whose domains are of these levels: in the end they get those of all."""
        self.levels.append(levels)
        for where, node in nodes:
            self.nodes.append((where, node))
            self.domains[node.name] = {level: name for level, name in zip(levels, node.topology, strict=False) if name}

    def _snapshot(self, document: Mapping[str, Any], *, where: str) -> None:
        try:
            snapshot = snapshots.from_document(document, where=where)
        except inputs.InputError as error:
            self.faults += error.faults
            return
        self._add(*((f"{where}: {node.name}", node) for node in snapshot.nodes), levels=snapshot.levels)
        self.queues += ((where, queue) for queue in snapshot.queues)
        if snapshot.reservations:
            self.notes.append(f"{where}: {len(snapshot.reservations)} reservations were left out")
        names = {node.name for node in snapshot.nodes}
        queues = {queue.name for queue in snapshot.queues}
        for index, job in enumerate(snapshot.jobs):
            place = f"{where}: jobs[{index}].expected_seconds"
            duration = self.request.duration if job.expected_seconds is None else job.expected_seconds
            if duration is None:
                cause = f'nothing says how long "{job.name}" runs'
                self.faults.append(inputs.Fault(place, cause, "write its seconds, or give --duration"))
                continue
            placement = job.placement
            if placement is not None and not names.issuperset(share.node for share in placement.shares):
                self.notes.append(f'{where}: "{job.name}" runs on nodes that are not there, so it waits')
                placement = None
            queue = job.queue if job.queue in queues else ""
            if job.queue != queue:
                self.notes.append(f'{where}: "{job.name}" names the queue "{job.queue}", which is not there')
            anew = dataclasses.replace(
                job,
                placement=None,
                disruption_cost=None,
                leaving=False,
                returning=False,
                queue=queue,
            )
            one = workload.Submission(anew, snapshot.now_seconds, duration, placement=placement)
            self.submissions.append((place, one))

    def finish(self) -> Scenario:
        """Everything together, checked across files."""
        for where, body in self.training_jobs:
            made = manifests.read_job(
                body,
                reading=self.request.reading,
                priorities=self.priorities,
                duration=self.request.duration,
                where=where,
                faults=self.faults,
            )
            if made is None:
                self.notes.append(f"{where}: the job is suspended and was left out")
            else:
                self.submissions.append((f"{where}: metadata.name", made))
        levels = self.request.levels or merge_levels([*self.levels, *(form.levels for _, form in self.forms)])
        for where, form in self.forms:
            self.nodes += ((where, node) for node in form.nodes)
            self.domains.update((node.name, form.domains) for node in form.nodes)
        self.nodes = [(where, self._placed(node, levels)) for where, node in self.nodes]
        self._check(levels)
        inputs.refuse(self.faults)
        submissions = from_one_start([submission for _, submission in self.submissions])
        return Scenario(
            nodes=tuple(node for _, node in self.nodes),
            submissions=submissions,
            levels=levels,
            notes=tuple(self.notes),
            queues=tuple(queue for _, queue in self.queues),
            reserve_after_seconds=self.reserve_after,
        )

    def _placed(self, node: types.Node, levels: tuple[str, ...]) -> types.Node:
        return dataclasses.replace(node, topology=tuple(self.domains[node.name].get(level) for level in levels))

    def _check(self, levels: tuple[str, ...]) -> None:
        self._distinct("node", ((where, node.name) for where, node in self.nodes))
        self._distinct("job", ((where, submission.job.id) for where, submission in self.submissions))
        if not self.nodes and not self.faults:
            self.faults.append(inputs.Fault("", "there are no nodes", "give --nodes FILE, --file FILE or --trace"))
        if not self.submissions and not self.faults:
            self.faults.append(inputs.Fault("", "there are no jobs", "give --jobs FILE, --file FILE or --trace"))
        self._check_queues()
        for where, submission in self.submissions:
            for asked in (submission.job.topology, submission.job.spread):
                if asked is not None and asked.level and asked.level not in (*levels, "node"):
                    cause = f'job "{submission.job.name}" names the topology level "{asked.level}"'
                    self.faults.append(inputs.Fault(where, cause, inputs.unknown(asked.level, known=(*levels, "node"))))

    def _check_queues(self) -> None:
        self._distinct("queue", ((where, queue.name) for where, queue in self.queues))
        places = {queue.name: where for where, queue in self.queues}
        if not self.faults:
            wrong = trees.faults([queue for _, queue in self.queues])
            self.faults += (inputs.Fault(places[name], f'queue "{name}": {cause}') for name, cause in wrong.items())
        for where, submission in self.submissions:
            queue = submission.job.queue
            if queue and queue not in places:
                cause = f'job "{submission.job.name}" names the queue "{queue}"'
                fix = inputs.unknown(queue, known=places) if places else "give the queues as well"
                self.faults.append(inputs.Fault(where, cause, fix))

    def _distinct(self, what: str, named: Iterable[tuple[str, str]]) -> None:
        seen: dict[str, str] = {}
        for where, name in named:
            if name and name in seen:
                cause = f'{what} "{name}" is there already ({seen[name]})'
                self.faults.append(inputs.Fault(where, cause, "give every one its own name"))
            seen.setdefault(name, where)


def merge_levels(named: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """All levels that were named: in the order of whoever names most, the others after them."""
    longest = max(named, key=len, default=())
    return tuple(dict.fromkeys([*longest, *(level for levels in named for level in levels)]))


def from_one_start(submissions: Sequence[workload.Submission]) -> tuple[workload.Submission, ...]:
    """Times without a date, counted from the first date that there is."""
    dates = [one.submitted_seconds for one in submissions if one.submitted_seconds >= FIRST_DATE_SECONDS]
    if not dates or len(dates) == len(submissions):
        return tuple(submissions)
    return tuple(_later(one, min(dates)) for one in submissions)


def _later(submission: workload.Submission, start: int) -> workload.Submission:
    if submission.submitted_seconds >= FIRST_DATE_SECONDS:
        return submission
    came = submission.submitted_seconds + start
    job = dataclasses.replace(submission.job, created_at_seconds=came)
    return dataclasses.replace(submission, job=job, submitted_seconds=came)
